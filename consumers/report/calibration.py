"""Whether a classifier is right as often as it says, and the temperature that makes it so.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from consumers.report.probabilities import label_losses, log_probabilities, row_blocks

BINS = 15
"""As many as Guo et al. take."""

_BOUNDS = (math.log(0.01), math.log(100.0))
_ENOUGH_ENTRIES = 10_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability:
    """How often answers of about the same confidence are right, in bins of equal width over [0, 1].

    Attributes:
      counts: int64 [bins], the answers in each bin.
      confidence: float64 [bins], their mean confidence; NaN in an empty bin.
      accuracy: float64 [bins], the share of them that is right; NaN in an empty bin.

    >>> reliability(np.array([0.9, 0.9]), np.array([True, False])).expected_error
    0.4
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean |accuracy - confidence| over the answers, in [0, 1].

        Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
        Binning", AAAI 2015; equation 3 of Guo et al.
        """
        full = self.counts > 0
        gaps = np.abs(self.accuracy[full] - self.confidence[full])
        return float(np.average(gaps, weights=self.counts[full]))


def reliability(confidence: np.ndarray, is_right: np.ndarray) -> Reliability:
    """Puts answers into bins of confidence, each open on its left and closed on its right.

    Args:
      confidence: float, any shape, in [0, 1]: the probability of the class that was chosen; of
        each label where there may be several.
      is_right: bool of the same shape: whether that class, or label, is the true one.
    """
    confidence, is_right = confidence.ravel(), is_right.ravel()
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    empty_is_nan = np.where(counts > 0, counts, np.nan)
    return Reliability(
        counts,
        np.bincount(bins, confidence, minlength=BINS) / empty_is_nan,
        np.bincount(bins, is_right, minlength=BINS) / empty_is_nan,
    )


def temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The number by which logits are to be divided so that their log loss is least.

    The logits must be of images that the head has not seen: held out, or out of fold. To the loss
    summed over the images comes `log(T)² / 2`, a standard normal prior of log T: it is nothing
    beside a hundred images with a few mistakes among them, but where all answers are right, or
    there are few, T stays near 1 and does not run to its bound.

    Args:
      logits: float32 [n, C], finite. More than ten million entries are thinned to as many, by
        taking rows at equal steps.
      targets: int64 [n], or bool [n, C] where an image may be of several classes.

    Returns:
      in [0.01, 100]; above 1 where the classifier is too sure of itself.
    """
    from scipy.optimize import minimize_scalar

    step = -(-logits.size // _ENOUGH_ENTRIES)
    logits, targets = logits[::step], targets[::step]

    def loss(log_temperature: float) -> float:
        blocks = row_blocks(logits.shape)
        scale = math.exp(-log_temperature)
        images = sum(_summed_loss(logits[rows] * scale, targets[rows]) for rows in blocks)
        return images + log_temperature**2 / 2

    found = minimize_scalar(loss, bounds=_BOUNDS, method="bounded", options={"xatol": 1e-4})
    return float(math.exp(found.x))


def _summed_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    if targets.ndim == 2:
        return float(label_losses(logits, targets).sum())
    return -float(np.take_along_axis(log_probabilities(logits), targets[:, None], axis=1).sum())
