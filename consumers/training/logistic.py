"""The usual head: logistic regression, as strongly regularised as cross-validation finds best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from consumers.head import Dense, Head
from consumers.labelled import Labelled
from consumers.training.split import folds
from consumers.training.streaming import (
    EXACT,
    ROUGH,
    Penalty,
    Standardisation,
    class_probabilities,
    mean_log_loss,
    solve,
    standardised_logits,
)

# From strong to weak; behind the first that is worse than the one before, none is tried.
STRENGTHS = tuple(
    float(f"{digit}e{exponent}") for exponent in range(-1, -8, -1) for digit in (3, 1)
)

ClassWeight = Literal["none", "balanced"]


@dataclasses.dataclass(frozen=True, eq=False)
class LogisticFit:
    """What was fitted, and how it was chosen.

    Attributes:
      head: for vectors as they are; the standardisation is multiplied in.
      strength: of l2, on standardised vectors; the best of those that were tried.
      scores: for each strength that was tried, the log loss on images that were not learnt from.
        Weaker ones than the first that is worse than the best are not tried.
      out_of_fold: float32 [n, C], for each image the probabilities by a head that has not seen it,
        nor its group.
    """

    head: Head
    strength: float
    scores: dict[float, float]
    out_of_fold: np.ndarray


def fit_logistic(
    training: Labelled,
    strengths: tuple[float, ...],
    fold_count: int,
    choosing_folds: int,
    class_weight: ClassWeight,
    seed: int,
    l1: float,
    progress: Callable[[str], None],
) -> LogisticFit:
    """Fits softmax, or a sigmoid each class where images are of several.

    Args:
      training: float32 vectors [n, N]; they are read in blocks, some 50 times for each strength.
      strengths: of l2 in `mean log loss + l1 * sum |w| + l2 * sum w²`, of the kernel on
        standardised vectors; at least one.
      fold_count: parts that are each left out once, 2 or more; stratified, and groups stay
        together.
      choosing_folds: how many of them choose the strength.
      class_weight: "balanced" weighs images by n / (C * images of their class), as scikit-learn
        does; where images are of several, yes and no of each class weigh the same.
      seed: of the folds.
      l1: as above.
      progress: is told what was found, a line at a time.
    """
    vectors, targets = training.vectors, training.targets
    scale = Standardisation.of(vectors)
    fold_of = folds(training, fold_count, seed)
    numbers = [number for number in range(fold_count) if (fold_of == number).any()]
    zero = Dense(
        np.zeros((vectors.shape[1], len(training.classes)), np.float32),
        np.zeros(len(training.classes), np.float32),
    )

    def solved(rows: np.ndarray, strength: float, start: Dense, tolerance: float) -> Dense:
        weights = image_weights(targets[rows], len(training.classes), class_weight)
        penalty = Penalty(l1, strength)
        return solve(vectors, rows, targets[rows], weights, scale, penalty, start, tolerance)

    def answers(layer: Dense, rows: np.ndarray) -> np.ndarray:
        logits = standardised_logits(layer, vectors, rows, scale)
        return class_probabilities(logits, training.is_multi_label)

    weights = image_weights(targets, len(training.classes), class_weight)
    layers = dict.fromkeys(numbers[:choosing_folds], zero)
    tested = np.flatnonzero(np.isin(fold_of, list(layers)))
    scores: dict[float, float] = {}
    best, best_layers = np.inf, layers
    out_of_fold = np.zeros((len(targets), len(training.classes)), np.float32)
    trial = np.zeros_like(out_of_fold)
    for strength in sorted(strengths, reverse=True):
        for number in layers:
            others = np.flatnonzero(fold_of != number)
            layers[number] = solved(others, strength, layers[number], ROUGH)
            left_out = np.flatnonzero(fold_of == number)
            trial[left_out] = answers(layers[number], left_out)
        score = mean_log_loss(trial[tested], targets[tested], weights[tested])
        scores[strength] = score
        progress(f"l2 {strength:g}: log loss {score:.4f} on images that were not learnt from")
        if score >= best:
            break
        best, best_layers = score, dict(layers)
        out_of_fold[tested] = trial[tested]
    chosen = min(scores, key=lambda strength: scores[strength])
    start = next(iter(best_layers.values()))
    for number in numbers[choosing_folds:]:
        progress(f"fold {number + 1} of {fold_count} with l2 {chosen:g}")
        layer = solved(np.flatnonzero(fold_of != number), chosen, start, ROUGH)
        left_out = np.flatnonzero(fold_of == number)
        out_of_fold[left_out] = answers(layer, left_out)
    layer = solved(np.arange(len(targets)), chosen, start, EXACT)
    head = Head((layer,), l1=l1, l2=chosen).on_standardised(scale.mean, scale.deviation)
    return LogisticFit(head, chosen, scores, out_of_fold)


def image_weights(targets: np.ndarray, classes: int, class_weight: ClassWeight) -> np.ndarray:
    """What each image counts in the loss; 1 on average.

    Args:
      targets: int64 [n], or bool [n, C].
      classes: C.
      class_weight: as in `fit_logistic`.

    Returns:
      float32 of the targets' shape.

    >>> image_weights(np.array([0, 1, 1, 1, 1, 1, 1, 1]), 2, "balanced")[0].item()
    4.0
    """
    if class_weight == "none":
        return np.ones(targets.shape, np.float32)
    if targets.ndim == 2:
        share = targets.mean(axis=0)
        weights = np.where(
            targets, 0.5 / np.maximum(share, 1e-9), 0.5 / np.maximum(1 - share, 1e-9)
        )
        return np.where((share == 0) | (share == 1), 1, weights).astype(np.float32)
    counts = np.bincount(targets, minlength=classes)
    present = np.count_nonzero(counts)
    return (len(targets) / (present * np.maximum(counts, 1)))[targets].astype(np.float32)
