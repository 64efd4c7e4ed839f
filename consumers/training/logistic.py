"""The usual head: logistic regression, as strongly regularised as cross-validation finds best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from consumers.head import Dense, Head
from consumers.labelled import Labelled
from consumers.training.cross_validation import answers_of, askable_folds, calibrated_log_loss
from consumers.training.streaming import (
    EXACT,
    MOST_PASSES,
    ROUGH,
    Penalty,
    Standardisation,
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
      strength: of l2, on standardised vectors; the best of those that were tried, or the middle one
        of all where none could be.
      scores: for each strength that was tried, the log loss on images that were not learnt from, at
        its best temperature. Weaker ones than the first that is worse than the one before are not
        tried; none is where no image can be asked about.
      out_of_fold: float32 [n, C], for each image the probabilities by a head that has not seen it,
        nor its group; NaN where that head has not seen the image's class, either.
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
      fold_count: parts that are each left out once, stratified, and groups stay together; below 2,
        or of one group, nothing is left out.
      choosing_folds: how many of them choose the strength.
      class_weight: "balanced" weighs images by n / (C * images of their class), as scikit-learn
        does; where images are of several, yes and no of each class weigh the same.
      seed: of the folds.
      l1: as above.
      progress: is told what was found, a line at a time.
    """
    vectors, targets = training.vectors, training.targets
    scale = Standardisation.of(vectors)
    parts = askable_folds(training, fold_count, seed)
    choosing, others = parts[:choosing_folds], parts[choosing_folds:]
    zero = Dense(
        np.zeros((vectors.shape[1], len(training.classes)), np.float32),
        np.zeros(len(training.classes), np.float32),
    )
    has_told = False

    def solved(rows: np.ndarray, strength: float, start: Dense, tolerance: float) -> Dense:
        nonlocal has_told
        weights = image_weights(targets[rows], len(training.classes), class_weight)
        penalty = Penalty(l1, strength)
        layer, is_enough = solve(
            vectors, rows, targets[rows], weights, scale, penalty, start, tolerance
        )
        if not is_enough and not has_told:
            has_told = True
            progress(
                f"{MOST_PASSES} passes over the images were not enough for l2 {strength:g}; the "
                "layer is taken as it is then"
            )
        return layer

    def answers(layer: Dense, rows: np.ndarray) -> np.ndarray:
        logits = standardised_logits(layer, vectors, rows, scale)
        return answers_of(logits, training.is_multi_label)

    weights = image_weights(targets, len(training.classes), class_weight)
    layers = [zero] * len(choosing)
    scores: dict[float, float] = {}
    best, start = np.inf, zero
    out_of_fold = np.full((len(targets), len(training.classes)), np.nan, np.float32)
    trial = out_of_fold.copy()
    tested = np.sort(np.concatenate([np.empty(0, np.int64), *(part.asked for part in choosing)]))
    weaker = sorted(strengths, reverse=True)
    for strength in weaker if choosing else []:
        for place, part in enumerate(choosing):
            layers[place] = solved(part.learnt, strength, layers[place], ROUGH)
            trial[part.asked] = answers(layers[place], part.asked)
        # At the temperature that a classifier gets afterwards. What is too sure of itself and right
        # more often is better then: of 200,000 images in 100 classes, l2 of 3e-4 was right for
        # 96.96 %, and 1e-5, the best by the log loss without it, for 96.67 %.
        score = calibrated_log_loss(trial[tested], targets[tested], weights[tested])
        scores[strength] = score
        progress(f"l2 {strength:g}: log loss {score:.4f} on images that were not learnt from")
        if score >= best:
            break
        best, start = score, layers[0]
        out_of_fold[tested] = trial[tested]
    middle = weaker[(len(weaker) - 1) // 2]
    chosen = min(scores, key=lambda strength: scores[strength]) if scores else middle
    for part in others:
        progress(f"fold {part.number} of {fold_count} with l2 {chosen:g}")
        # Not from a layer of the folds before: it has seen these images.
        layer = solved(part.learnt, chosen, zero, ROUGH)
        out_of_fold[part.asked] = answers(layer, part.asked)
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
