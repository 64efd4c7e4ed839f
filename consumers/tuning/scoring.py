"""How good a network is on images that it is not trained on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from consumers.report.calibration import temperature
from consumers.tuning.images import LabelledBatch
from consumers.tuning.network import cross_entropy


@dataclasses.dataclass(frozen=True, eq=False)
class Validation:
    """The answers to the validation images that could be read.

    Attributes:
      rows: int64 [n], positions in the list of validation images.
      logits: float32 [n, C].
      targets: float32 [n, C], 0 or 1.
      is_multi_label: whether an image may be of several classes.
    """

    rows: np.ndarray
    logits: np.ndarray
    targets: np.ndarray
    is_multi_label: bool

    def loss(self) -> float:
        """The mean cross entropy of the logits at the temperature at which it is the least.

        A classifier gets its temperature in the end: what smoothed labels do to its confidence is
        no reason to prefer the weights before. NaN where a logit is no number.
        """
        if not np.isfinite(self.logits).all():
            return math.nan
        known = self.targets > 0 if self.is_multi_label else self.targets.argmax(1)
        logits = self.logits / np.float32(temperature(self.logits, known))
        losses = cross_entropy(logits, self.targets, 0.0, self.is_multi_label)
        return float(np.mean(losses.numpy().astype(np.float64)))

    def accuracy(self) -> float:
        """Share of images whose best class is right.

        Where an image may be of several classes: share of right answers, at a probability of one
        half, to whether an image is of a class.
        """
        if self.is_multi_label:
            return float(np.mean((self.logits > 0) == (self.targets > 0)))
        return float(np.mean(self.logits.argmax(1) == self.targets.argmax(1)))


def validated(
    logits: Callable[[Any], Any], batches: Iterable[LabelledBatch], is_multi_label: bool
) -> Validation | None:
    """The answers to batches of images; None: there was no image in them.

    Args:
      logits: from images float32 [B, H, W, 3] to float32 [B, C].
      batches: of validation images.
      is_multi_label: whether an image may be of several classes.
    """
    import tensorflow as tf

    rows: list[int] = []
    answers, targets = [], []
    for batch in batches:
        if batch.rows:
            images = tf.image.convert_image_dtype(batch.images, tf.float32)
            answers.append(logits(images).numpy())
            targets.append(batch.targets)
            rows += batch.rows
    if not rows:
        return None
    return Validation(
        np.array(rows), np.concatenate(answers), np.concatenate(targets), is_multi_label
    )
