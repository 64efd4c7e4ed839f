"""Lines for the person who waits for a training: where it is, and how long it will take yet."""

from __future__ import annotations

import time
from collections.abc import Callable

from consumers.tuning.checkpoints import EpochScore

_SECONDS_BETWEEN_LINES = 30.0


class StepProgress:
    """Tells how far the steps of a training are, now and then.

    Args:
      say: is given the lines.
      steps: of the whole training.
      done: of them, those that were done before.
    """

    def __init__(self, say: Callable[[str], None], steps: int, done: int):
        self._say = say
        self._steps = steps
        self._first = done
        self._began = self._told = time.monotonic()

    def reached_step(self, step: int, where: str) -> None:
        """Says where it is, unless it did so a moment ago."""
        now = time.monotonic()
        if now - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = now
            self._say(f"{where}{self.left(step)}")

    def left(self, step: int) -> str:
        """How long the steps that are left will take, as the end of a line; empty: not known."""
        done, left = step - self._first, self._steps - step
        if done <= 0 or left <= 0:
            return ""
        return f"; {duration_text((time.monotonic() - self._began) / done * left)} left"


def score_line(score: EpochScore, epochs: int) -> str:
    """What an epoch gave, in one line.

    >>> score_line(EpochScore(1, 0.5, 0.1, 0.25, 0.9), 5)
    'epoch 1 of 5: loss 0.4000 and 0.1000 of regularisation, validation loss 0.2500, accuracy 90.0%'
    """
    began = ""
    if score.epoch and score.loss is not None and score.regularization is not None:
        began = (
            f"epoch {score.epoch} of {epochs}: loss {score.loss - score.regularization:.4f} and "
            f"{score.regularization:.4f} of regularisation, "
        )
    return (
        f"{began or 'before training: '}validation loss {score.validation_loss:.4f}, "
        f"accuracy {score.validation_accuracy:.1%}"
    )


def duration_text(seconds: float) -> str:
    """A length of time for people.

    >>> duration_text(42), duration_text(150), duration_text(7380)
    ('42 s', '2 min 30 s', '2 h 3 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
