"""Feature vectors with their labels: what a head is trained on."""

from __future__ import annotations

import dataclasses
import os
import tempfile

import numpy as np

_ROWS_AT_ONCE = 4096


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
        vectors = gathered(self.vectors, rows)
        return Labelled(self.ids[rows], vectors, self.targets[rows], self.classes, groups)


def on_disk(shape: tuple[int, int]) -> np.memmap:
    """An array of float32 in a file of the temporary directory, which goes with it.

    Raises:
      OSError: there is no space for it.
    """
    size = max(4, 4 * shape[0] * shape[1])
    with tempfile.TemporaryFile() as file:
        os.posix_fallocate(file.fileno(), 0, size)  # or writing to it would end the process
        return np.memmap(file, np.float32, "r+", shape=shape)


def gathered(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows of an array: in memory, or on disk where it is there itself.

    Args:
      vectors: float32 [n, N].
      rows: positions or a mask.
    """
    if not isinstance(vectors, np.memmap):
        return vectors[rows]
    positions = np.flatnonzero(rows) if rows.dtype == bool else rows
    found = on_disk((len(positions), vectors.shape[1]))
    for start in range(0, len(positions), _ROWS_AT_ONCE):
        block = positions[start : start + _ROWS_AT_ONCE]
        found[start : start + len(block)] = vectors[block]
    return found
