"""Which images are learnt from and which are held out: by class, and no group on both sides.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, *On the Stratification of Multi-label
Data*, 2011) with groups in the place of images: the rarest class that is left deals its groups, the
largest first, each to the side that lacks the largest share of that class. With one class an image
and no groups every side gets its share of every class to the image.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from consumers.labelled import Labelled
from transforms.errors import Parameter, UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Two sides of one set of images.

    Attributes:
      train, held_out: int64, the images' positions, rising; each image is on one side.
    """

    train: np.ndarray
    held_out: np.ndarray


def split_images(labelled: Labelled, fraction: float, seed: int) -> Split:
    """Holds out a share of the images, stratified by class; groups stay together.

    The same images with the same seed give the same split. Every class is on both sides; a share
    that cannot be met for that, or for the groups' sizes, is met as nearly as the dealing goes.

    Args:
      labelled: its vectors are not looked at.
      fraction: of each class that is held out, above 0 and below 1.
      seed: of the order in which images are dealt, 0 or more.

    Raises:
      UserError: the fraction is no such share; a class cannot be on both sides, as it has one
        image, or all of its images are in one group.

    >>> ids = np.array(list("abcdef"), object)
    >>> targets, groups = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 3, 3])
    >>> images = Labelled(ids, np.zeros((6, 1), np.float32), targets, ("cat", "dog"), groups)
    >>> sides = split_images(images, 0.4, seed=0)
    >>> sides.train.tolist(), sides.held_out.tolist()
    ([0, 1, 4, 5], [2, 3])
    """
    if not 0 < fraction < 1:
        raise UserError(
            "a share above 0 and below 1 is needed", subject=Parameter("fraction", fraction)
        )
    units = _Units.of(labelled)
    _refuse_classes_in_one_unit(units, labelled)
    sides = _dealt(units, np.array([1 - fraction, fraction]), seed)
    _put_classes_on_both_sides(units, sides, labelled)
    held_out = sides[units.of_image] == 1
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))


def folds(labelled: Labelled, count: int, seed: int) -> np.ndarray:
    """The number of each image's fold, for cross-validation: int64 [n], below `count`.

    Stratified and grouped as in `split_images`, but a class of few groups may be missing in some
    folds, and be in one alone.
    """
    units = _Units.of(labelled)
    return _dealt(units, np.full(count, 1 / count), seed)[units.of_image]


@dataclasses.dataclass(frozen=True, eq=False)
class _Units:
    """What is dealt: groups, or images where there are no groups.

    Attributes:
      of_image: int64 [n], the unit of each image.
      sizes: int64 [U], images in each.
      counts: of each unit, the classes that it has images of, and how many. Images of no class are
        of one more class, the last.
      classes: how many classes there are, that one included.
    """

    of_image: np.ndarray
    sizes: np.ndarray
    counts: list[dict[int, int]]
    classes: int

    @classmethod
    def of(cls, labelled: Labelled) -> _Units:
        groups = np.arange(len(labelled.ids)) if labelled.groups is None else labelled.groups
        _, of_image, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        if labelled.is_multi_label:
            none = ~labelled.targets.any(axis=1, keepdims=True)
            images, of_class = np.nonzero(np.concatenate([labelled.targets, none], axis=1))
        else:
            images, of_class = np.arange(len(labelled.ids)), labelled.targets
        classes = len(labelled.classes) + 1
        pairs, numbers = np.unique(of_image[images] * classes + of_class, return_counts=True)
        counts: list[dict[int, int]] = [{} for _ in sizes]
        for pair, number in zip(pairs.tolist(), numbers.tolist(), strict=True):
            unit, of_pair = divmod(pair, classes)
            counts[unit][of_pair] = number
        return cls(of_image, sizes, counts, classes)


def _dealt(units: _Units, shares: np.ndarray, seed: int) -> np.ndarray:
    """The side of each unit: int64 [U]."""
    totals = np.zeros(units.classes, np.int64)
    having: list[list[int]] = [[] for _ in range(units.classes)]
    shuffled = np.random.default_rng(seed).permutation(len(units.sizes))
    for unit in shuffled[np.argsort(-units.sizes[shuffled], kind="stable")].tolist():
        for of_class, number in units.counts[unit].items():
            having[of_class].append(unit)
            totals[of_class] += number
    wanted = [_apportioned(int(total), shares) for total in totals]
    whole = [[max(number, 1) for number in wants] for wants in wanted]
    overall = [sum(side) for side in zip(*wanted, strict=True)]
    left = totals.tolist()
    sides = np.full(len(units.sizes), -1)
    open_classes = {of_class for of_class in range(units.classes) if left[of_class]}
    while open_classes:
        rarest = min(open_classes, key=lambda of_class: (left[of_class], of_class))
        open_classes.remove(rarest)
        wants = wanted[rarest]
        for unit in having[rarest]:
            if sides[unit] >= 0:
                continue
            side = _side(units.counts[unit][rarest], wants, whole[rarest], overall)
            sides[unit] = side
            for of_class, number in units.counts[unit].items():
                wanted[of_class][side] -= number
                overall[side] -= number
                left[of_class] -= number
        open_classes = {of_class for of_class in open_classes if left[of_class]}
    return sides


def _side(number: int, wants: list[int], whole: list[int], overall: list[int]) -> int:
    """The side that a unit with `number` images of a class goes to.

    By the share that a side still lacks, so that units of all sizes come to all sides, and not the
    large ones to the larger side alone; by what it lacks where the unit is too large for any.
    """
    sides = range(len(wants))
    fitting = [side for side in sides if wants[side] >= number]
    if fitting:
        return max(fitting, key=lambda side: (wants[side] / whole[side], overall[side], -side))
    return max(sides, key=lambda side: (wants[side], overall[side], -side))


def _apportioned(total: int, shares: np.ndarray) -> list[int]:
    """Whole numbers that add up to the total, nearest to its shares; no side of two is left out."""
    numbers = np.floor(total * shares).astype(int)
    rests = total * shares - numbers
    numbers[np.argsort(-rests, kind="stable")[: total - numbers.sum()]] += 1
    if len(shares) == 2 and total >= 2:
        numbers = np.clip(numbers, 1, total - 1)
    return numbers.tolist()


def _refuse_classes_in_one_unit(units: _Units, labelled: Labelled) -> None:
    seen = np.zeros(units.classes, np.int64)
    images = np.zeros(units.classes, np.int64)
    for counts in units.counts:
        for of_class, number in counts.items():
            seen[of_class] += 1
            images[of_class] += number
    for of_class, name in enumerate(labelled.classes):
        if seen[of_class] == 1:
            number = images[of_class]
            why = (
                "it has one image"
                if number == 1
                else f"all {number} images of it are in one group or near duplicates"
            )
            raise UserError(
                f"{why}, so it cannot be both learnt and measured; add other images of it or "
                "leave it out",
                subject=f"class {name!r}",
            )


def _put_classes_on_both_sides(units: _Units, sides: np.ndarray, labelled: Labelled) -> None:
    """Moves small units to where a class is missing, if that takes no class from the other side."""
    on_side = np.zeros((2, units.classes), np.int64)
    for unit, counts in enumerate(units.counts):
        for of_class in counts:
            on_side[sides[unit], of_class] += 1
    for of_class, name in enumerate(labelled.classes):
        for side in (0, 1):
            if on_side[side, of_class] or not on_side[1 - side, of_class]:
                continue
            movable = [
                unit
                for unit, counts in enumerate(units.counts)
                if of_class in counts
                and all(on_side[1 - side, c] > 1 for c in counts if c < units.classes - 1)
            ]
            if not movable:
                raise UserError(
                    "its groups hold other classes that would then be missing, so it cannot be "
                    "both learnt and measured; use smaller groups or leave the class out",
                    subject=f"class {name!r}",
                )
            unit = min(movable, key=lambda u: (units.sizes[u], u))
            sides[unit] = side
            for moved in units.counts[unit]:
                on_side[1 - side, moved] -= 1
                on_side[side, moved] += 1
