"""What heads say of images they have not seen: which can be asked about, and how good that is."""

from __future__ import annotations

import dataclasses

import numpy as np

from consumers.labelled import Labelled
from consumers.report.calibration import temperature
from consumers.report.probabilities import logits_of, probabilities_of, row_blocks
from consumers.training.split import folds

_ENOUGH_ENTRIES = 10_000_000  # as `temperature` takes


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
    """One part of the images, and a head that is trained without it.

    Attributes:
      number: counted from 1.
      learnt: int64, the rows that the head is trained on.
      asked: int64, the rows of the part of which its answer counts: those with a class that no
        image of `learnt` has are left out, as nobody could know it.
    """

    number: int
    learnt: np.ndarray
    asked: np.ndarray


def units_count(labelled: Labelled) -> int:
    """How many groups there are, or images where none belong together: the most folds there are."""
    return len(labelled.ids) if labelled.groups is None else len(np.unique(labelled.groups))


def askable_folds(labelled: Labelled, count: int, seed: int) -> list[Fold]:
    """The folds of `folds` with at least one image to ask about; none where there is one group.

    >>> ids, vectors = np.array(list("abcd"), object), np.zeros((4, 1), np.float32)
    >>> targets, groups = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    >>> askable_folds(Labelled(ids, vectors, targets, ("cat", "dog"), groups), 2, seed=0)
    []
    """
    if min(count, units_count(labelled)) < 2:
        return []
    fold_of = folds(labelled, count, seed)
    found = []
    for number in range(count):
        learnt, left_out = np.flatnonzero(fold_of != number), np.flatnonzero(fold_of == number)
        asked = left_out[_are_known(labelled, learnt, left_out)]
        if len(asked):
            found.append(Fold(number + 1, learnt, asked))
    return found


def calibrated_log_loss(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> float:
    """The mean log loss in nats at the temperature at which it is least.

    Args:
      probabilities: float32 [n, C], of images that were not learnt from.
      targets: int64 [n], or bool [n, C]; the losses of classes are added then.
      weights: of the losses, not of the temperature: float32 [n], or [n, C] with bool targets.

    >>> probabilities = np.tile(np.array([[0.999, 0.001]], np.float32), (1000, 1))
    >>> targets = (np.arange(1000) % 4 == 0).astype(np.int64)
    >>> round(calibrated_log_loss(probabilities, targets, np.ones(1000, np.float32)), 2)
    0.56
    """
    some = slice(None, None, max(1, -(-probabilities.size // _ENOUGH_ENTRIES)))
    heat = temperature(logits_of(probabilities[some], targets[some]), targets[some])
    is_multi_label, loss = targets.ndim == 2, 0.0
    for rows in row_blocks(probabilities.shape):
        logits = logits_of(probabilities[rows], targets[rows]) / np.float32(heat)
        answers = probabilities_of(logits, is_multi_label)
        loss += _summed_log_loss(answers, targets[rows], weights[rows])
    images = weights.sum(dtype=np.float64) / (targets.shape[1] if is_multi_label else 1)
    return float(loss / images)


def answers_of(logits: np.ndarray, is_multi_label: bool) -> np.ndarray:
    """`probabilities_of` in the place of the logits, by blocks: float32 [n, C]."""
    for rows in row_blocks(logits.shape):
        logits[rows] = probabilities_of(logits[rows], is_multi_label)
    return logits


def _are_known(labelled: Labelled, learnt: np.ndarray, asked: np.ndarray) -> np.ndarray:
    targets = labelled.targets
    if labelled.is_multi_label:
        sure = targets[learnt].all(axis=0) | ~targets[learnt].any(axis=0)
        always = targets[learnt[:1]].repeat(len(asked), axis=0)
        return ~((targets[asked] != always) & sure).any(axis=1)
    seen = np.bincount(targets[learnt], minlength=len(labelled.classes)) > 0
    return seen[targets[asked]] & (seen.sum() > 1)


def _summed_log_loss(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    if targets.ndim == 2:
        of_truth = np.where(targets, probabilities, 1 - probabilities)
    else:
        of_truth = probabilities[np.arange(len(targets)), targets]
    losses = -np.log(np.clip(of_truth, np.finfo(np.float32).eps, 1)) * weights
    return float(losses.sum(dtype=np.float64))
