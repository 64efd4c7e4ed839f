"""From labelled vectors to a head, and how good it is: split, fit, calibrate, measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from consumers.head import Head
from consumers.labelled import Labelled
from consumers.report.calibration import temperature
from consumers.report.evaluation import evaluate
from consumers.report.held_out import HeldOut
from consumers.report.metrics import Metrics
from consumers.report.probabilities import logits_of, probabilities_of
from consumers.report.suspects import label_suspects
from consumers.training.checks import images_per_class, refuse_untrainable
from consumers.training.duplicates import (
    NEAR_DUPLICATE,
    equal_vector_groups,
    images_not_alone,
    joined_groups,
    near_duplicate_groups,
)
from consumers.training.fit import FittedHead, HeadOptions, fit_head
from consumers.training.split import Split, split_images
from transforms.errors import UserError

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a head is made and measured.

    Attributes:
      head: how it is fitted.
      held_out: share of each class that is measured with.
      seed: of the split.
      near_duplicate: cosine of two vectors from which their images are never on both sides; 1: only
        those of equal vectors are not; None:
        `NEAR_DUPLICATE`, unless the model gives most images vectors that are so alike.
      precision_wanted: how often answers are to be right where the classifier may abstain.
      fewest: images that a class must have: to learn from, to choose with and to measure with.
    """

    head: HeadOptions
    held_out: float = 0.2
    seed: int = 0
    near_duplicate: float | None = None
    precision_wanted: float = 0.95
    fewest: int = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """What came out.

    Attributes:
      labelled: all images, with the groups that were not torn apart.
      sides: which of them were held out.
      near_duplicates: how many images have another one that is almost the same.
      near_duplicate: the cosine from which they are.
      fitted: the head as it was fitted.
      head: that head at the temperature at which its probabilities are right on average.
      metrics: of `head` on the images that were held out.
      held_out: the answers that they are of.
      suspects: images with labels that are probably wrong, as `label_suspects` has them.
    """

    labelled: Labelled
    sides: Split
    near_duplicates: int
    near_duplicate: float
    fitted: FittedHead
    head: Head
    metrics: Metrics
    held_out: HeldOut
    suspects: pa.Table


def learn(labelled: Labelled, recipe: Recipe, say: Say) -> Learned:
    """Fits a head on one side of the images and measures it on the other.

    The temperature comes from the out-of-fold probabilities of the images that were learnt from, so
    that what is held out is seen by nothing before it is measured with.

    Args:
      labelled: all images.
      recipe: how.
      say: is given lines for the person who waits.

    Raises:
      UserError: the images cannot be learnt from; the message names what is in the way.
    """
    refuse_untrainable(labelled)
    _refuse_few(labelled, recipe.fewest)
    cosine, groups = _alike(labelled.vectors, recipe.near_duplicate, say)
    near_duplicates = images_not_alone(groups)
    labelled = dataclasses.replace(labelled, groups=joined_groups(groups, labelled.groups))
    sides = split_images(labelled, recipe.held_out, recipe.seed)
    say(
        f"{len(labelled.ids):,} images of {len(labelled.classes):,} classes: "
        f"{len(sides.train):,} to learn from, {len(sides.held_out):,} held out; "
        f"{near_duplicates:,} are near duplicates"
    )
    training = labelled.take(sides.train)
    fitted = fit_head(training, recipe.head, say)
    heat = _temperature(fitted, training)
    del training
    held_out = labelled.take(sides.held_out)
    logits = fitted.head.logits(held_out.vectors)
    metrics = measure(logits, held_out, heat, recipe)
    answers = answers_at(logits, held_out, heat)
    return Learned(
        labelled,
        sides,
        near_duplicates,
        cosine,
        fitted,
        fitted.head.at_temperature(heat),
        metrics,
        answers,
        _suspects(labelled, sides, fitted.out_of_fold, answers.probabilities),
    )


def measure(logits: np.ndarray, held_out: Labelled, heat: float, recipe: Recipe) -> Metrics:
    """How good logits are, before and at a temperature.

    Args:
      logits: float32 [n, C], as they are before it.
      held_out: the images.
      heat: the temperature.
      recipe: says which precision is wanted.
    """
    return evaluate(
        logits,
        held_out.targets,
        held_out.classes,
        temperature=heat,
        precision_wanted=recipe.precision_wanted,
    )


def answers_at(logits: np.ndarray, held_out: Labelled, heat: float) -> HeldOut:
    """What is answered to images at a temperature; arguments as of `measure`."""
    answers = probabilities_of(logits / np.float32(heat), held_out.is_multi_label)
    return HeldOut(held_out.ids, held_out.targets, answers)


def _refuse_few(labelled: Labelled, fewest: int) -> None:
    for name, count in zip(labelled.classes, images_per_class(labelled), strict=True):
        if count < fewest:
            raise UserError(
                f"class {name!r} has {count} of the {fewest} images that are needed at least: add "
                "images of it, or leave it out"
            )


def _alike(vectors: np.ndarray, asked: float | None, say: Say) -> tuple[float, np.ndarray]:
    """From which cosine images are near duplicates, and their groups.

    Where most images are, it is the model that tells few of them apart and not the images that are
    the same: vectors of few numbers, or of images of one kind, such as X-rays.
    """
    cosine = NEAR_DUPLICATE if asked is None else asked
    if cosine == 1:
        return cosine, equal_vector_groups(vectors)
    groups = near_duplicate_groups(vectors, cosine, say)
    alike = images_not_alone(groups)
    if asked is not None or alike <= len(vectors) / 2:
        return cosine, groups
    say(
        f"{alike:,} of {len(vectors):,} images have a vector within a cosine of {cosine:g} of "
        "another's: too many for near duplicates, so only equal vectors are taken for such"
    )
    return 1.0, equal_vector_groups(vectors)


def _temperature(fitted: FittedHead, training: Labelled) -> float:
    known = np.isfinite(fitted.out_of_fold).all(1)
    if not known.any():
        return 1.0
    targets = training.targets[known]
    return temperature(logits_of(fitted.out_of_fold[known], targets), targets)


def _suspects(
    labelled: Labelled, sides: Split, out_of_fold: np.ndarray, held_out: np.ndarray
) -> pa.Table:
    """Among all images: what is held out was not learnt from, either."""
    shape = (len(labelled.ids), len(labelled.classes))
    probabilities = np.full(shape, np.nan, np.float32)
    probabilities[sides.train] = out_of_fold
    probabilities[sides.held_out] = held_out
    return label_suspects(labelled.ids, labelled.targets, labelled.classes, probabilities)
