"""Feature vectors with their labels: what a head is trained on."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """Images as a classifier sees them.

    Attributes:
      ids: of the images, object [n] of str.
      vectors: float32 [n, N], finite; it may be a memory map.
      targets: int64 [n], the position of each image's class in `classes`; or bool [n, C] where an
        image may be of several classes.
      classes: their names, sorted; at least two.
      groups: int64 [n]: images of one group are on one side of every split; None: each for itself.
    """

    ids: np.ndarray
    vectors: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray | None = None

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may be of several classes, or of none."""
        return self.targets.ndim == 2

    def take(self, rows: np.ndarray) -> Labelled:
        """Some of the images: `rows` are positions or a mask."""
        groups = None if self.groups is None else self.groups[rows]
        return Labelled(
            self.ids[rows], self.vectors[rows], self.targets[rows], self.classes, groups
        )
