"""Which images are learnt from and which are held out: by class, and no group on both sides.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, *On the Stratification of Multi-label
Data*, 2011) with groups in the place of images: the rarest class that is left deals its groups, the
largest first, each to the side that lacks the largest share of that class. Where a small group goes
is said by a hash of its smallest id, as far as that side still lacks so many images. So an image
keeps its side when others come, go or change places; and with one class an image and no groups
every side gets its share of every class to the image.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from consumers.labelled import Labelled
from transforms.errors import Parameter, UserError

_SMALL = 4  # A small group fits into a side's share of a class as often.


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

    The same images with the same seed give the same split, in whatever order they come, and one
    image more or less moves few others. Every class is on both sides; a share that cannot be met
    for that, or for the groups' sizes, is met as nearly as the dealing goes.

    Args:
      labelled: its vectors are not looked at.
      fraction: of each class that is held out, above 0 and below 1.
      seed: of the hashes by which images are dealt.

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
    units = _Units.of(labelled, seed)
    _refuse_classes_in_one_unit(units, labelled)
    sides = _dealt(units, np.array([1 - fraction, fraction]))
    _put_classes_on_both_sides(units, sides, labelled)
    held_out = sides[units.of_image] == 1
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))


def folds(labelled: Labelled, count: int, seed: int) -> np.ndarray:
    """The number of each image's fold, for cross-validation: int64 [n], below `count`.

    Stratified and grouped as in `split_images`, but a class of few groups may be missing in some
    folds, and be in one alone.
    """
    units = _Units.of(labelled, seed)
    return _dealt(units, np.full(count, 1 / count))[units.of_image]


@dataclasses.dataclass(frozen=True, eq=False)
class _Units:
    """What is dealt: groups, or images where there are no groups.

    Attributes:
      of_image: int64 [n], the unit of each image.
      sizes: int64 [U], images in each.
      ranks: int64 [U], each one's place in the order of the hashes.
      counts: of each unit, the classes that it has images of, and how many. Images of no class are
        of one more class, the last.
      classes: how many classes there are, that one included.
    """

    of_image: np.ndarray
    sizes: np.ndarray
    ranks: np.ndarray
    counts: list[dict[int, int]]
    classes: int

    @classmethod
    def of(cls, labelled: Labelled, seed: int) -> _Units:
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
        return cls(of_image, sizes, _hash_ranks(labelled.ids, of_image, seed), counts, classes)


def _hash_ranks(ids: np.ndarray, of_image: np.ndarray, seed: int) -> np.ndarray:
    smallest: dict[int, str] = {}
    for unit, name in zip(of_image.tolist(), ids.tolist(), strict=True):
        smallest[unit] = min(name, smallest.get(unit, name))

    def hashed(unit: int) -> tuple[bytes, str]:
        text = f"{seed}/{smallest[unit]}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=8).digest(), smallest[unit]

    return np.argsort(sorted(range(len(smallest)), key=hashed))


def _dealt(units: _Units, shares: np.ndarray) -> np.ndarray:
    """The side of each unit: int64 [U]."""
    totals = [0] * units.classes
    having: list[list[int]] = [[] for _ in range(units.classes)]
    for unit in np.lexsort((units.ranks, -units.sizes)).tolist():
        for of_class, number in units.counts[unit].items():
            having[of_class].append(unit)
            totals[of_class] += number
    wanted = [_apportioned(total, shares) for total in totals]
    whole = [[max(number, 1) for number in wants] for wants in wanted]
    overall = [sum(side) for side in zip(*wanted, strict=True)]
    left = list(totals)
    sides = np.full(len(units.sizes), -1)
    open_classes = {of_class for of_class in range(units.classes) if left[of_class]}
    while open_classes:
        rarest = min(open_classes, key=lambda of_class: (left[of_class], of_class))
        wants = wanted[rarest]
        dealt = [unit for unit in having[rarest] if sides[unit] < 0]
        # What is large goes where it is needed, or two of the largest might meet on one side.
        most = max(1, min(whole[rarest]) // _SMALL)
        dealt.sort(key=lambda unit: units.counts[unit][rarest] <= most)
        side_of: dict[int, int] | None = None
        for place, unit in enumerate(dealt):
            number = units.counts[unit][rarest]
            if number <= most and side_of is None:
                side_of = _sides_by_hash(dealt[place:], units.ranks, wants)
            side = -1 if side_of is None else side_of[unit]
            if side_of is None or wants[side] < number:
                side = _side(number, wants, whole[rarest], overall)
            sides[unit] = side
            for of_class, number in units.counts[unit].items():
                wanted[of_class][side] -= number
                overall[side] -= number
                left[of_class] -= number
        open_classes = {of_class for of_class in open_classes if left[of_class]}
    return sides


def _sides_by_hash(dealt: list[int], ranks: np.ndarray, wants: list[int]) -> dict[int, int]:
    """A side for each unit: in the order of the hashes, the first are the first side's."""
    by_hash = np.array(dealt)[np.argsort(ranks[dealt])]
    ends = np.cumsum(np.maximum(wants, 0), dtype=np.float64)
    ends *= len(dealt) / max(1, ends[-1])
    sides = np.searchsorted(ends, np.arange(len(dealt)) + 0.5, side="right")
    return dict(zip(by_hash.tolist(), np.minimum(sides, len(wants) - 1).tolist(), strict=True))


def _side(number: int, wants: list[int], whole: list[int], overall: list[int]) -> int:
    """The side for a unit with `number` images of a class that is large, or finds its side full.

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
            unit = min(movable, key=lambda u: (units.sizes[u], units.ranks[u]))
            sides[unit] = side
            for moved in units.counts[unit]:
                on_side[1 - side, moved] -= 1
                on_side[side, moved] += 1
