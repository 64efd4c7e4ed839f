"""Logits to probabilities and back; what is large goes through in blocks of rows.

SciPy is imported where it is used: it comes with the `train` extra.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_MOST_ENTRIES = 1 << 21  # of a block: 16 MiB in float64
_SMALLEST = 1e-7  # below this a float32 cannot tell a probability's complement from 1


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """The rows of an array [n, C] in slices of about two million entries.

    >>> [(block.start, block.stop) for block in row_blocks((5, 1 << 20))]
    [(0, 2), (2, 4), (4, 5)]
    """
    rows, columns = shape
    step = max(1, _MOST_ENTRIES // max(1, columns))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax: float [n, C] to float64 [n, C]."""
    from scipy.special import log_softmax

    return log_softmax(logits.astype(np.float64), axis=1)


def probabilities_of(logits: np.ndarray, is_multi_label: bool) -> np.ndarray:
    """Softmax of logits, or where an image may be of several classes their sigmoid.

    Args:
      logits: float [n, C].
      is_multi_label: whether it may.

    Returns:
      float32 [n, C].

    >>> probabilities_of(np.zeros((1, 2), np.float32), is_multi_label=False).tolist()
    [[0.5, 0.5]]
    """
    if not is_multi_label:
        return np.exp(log_probabilities(logits)).astype(np.float32)
    from scipy.special import expit

    return expit(logits.astype(np.float32))


def label_losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Log loss in nats of each label under a sigmoid: float and bool [n, C] to float64 [n, C]."""
    logits = logits.astype(np.float64)
    return np.logaddexp(0, logits) - targets * logits


def logits_of(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Logits that have these probabilities, such as out-of-fold ones: `temperature` wants logits.

    Args:
      probabilities: float [n, C] in [0, 1].
      targets: int64 [n] for probabilities of a softmax, or bool [n, C] for those of a sigmoid.

    Returns:
      float32 [n, C], finite also where a probability has been rounded to 0 or 1.

    >>> logits_of(np.array([[0.5, 0.5]], np.float32), np.array([[True, False]])).tolist()
    [[0.0, 0.0]]
    """
    bounded = np.clip(probabilities, _SMALLEST, 1 - _SMALLEST).astype(np.float64)
    logits = np.log(bounded)
    if targets.ndim == 2:
        logits -= np.log1p(-bounded)
    return logits.astype(np.float32)


def refuse_misfit(answers: np.ndarray, targets: np.ndarray, classes: tuple[str, ...]) -> None:
    """Refuses logits or probabilities [n, C] that cannot be those of these targets and classes.

    Raises:
      ValueError: a mistake of whoever calls: shapes that differ, no image, positions of no class.
    """
    if answers.ndim != 2 or answers.shape[1] != len(classes):
        raise ValueError(f"[n, {len(classes)}] is needed for the classes, not {answers.shape}")
    wanted = answers.shape[: targets.ndim]
    if targets.shape != wanted or not 1 <= targets.ndim <= 2:
        raise ValueError(f"targets of shape {wanted} are needed, not {targets.shape}")
    if not len(targets):
        raise ValueError("no images")
    if targets.ndim == 1 and (targets.min() < 0 or targets.max() >= len(classes)):
        raise ValueError(f"a target is the position of no class: there are {len(classes)}")
