"""The learning rate at each step: it rises in a straight line, then falls as a cosine."""

from __future__ import annotations

import math


def learning_rate_at(step: int, steps: int, highest: float, warmup: float) -> float:
    """The learning rate of one step.

    After the warm-up it is `highest · (1 + cos(π t)) / 2`, t from 0 to 1 (Loshchilov and Hutter,
    "SGDR", https://arxiv.org/abs/1608.03983, without restarts).

    Args:
      step: from 0.
      steps: of the whole training.
      highest: the learning rate after the warm-up.
      warmup: share of the steps in which it rises.

    >>> [round(learning_rate_at(step, 10, 1.0, 0.2), 2) for step in range(10)]
    [0.5, 1.0, 1.0, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04]
    """
    rising = round(steps * warmup)
    if step < rising:
        return highest * (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return highest * (1 + math.cos(math.pi * done)) / 2
