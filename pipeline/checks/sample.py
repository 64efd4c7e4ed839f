"""A random sample of the images of an output, with what is stored of each."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from transforms.errors import UnusableInputError


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """What an output says of one image.

    Attributes:
      id, uri, version: of the image.
      width, height: of the source image in pixels; 0 for an error row.
      vector: float32 [N]; None for an error row.
      error_type: of an error row, else None.
    """

    id: str
    uri: str
    version: str
    width: int = 0
    height: int = 0
    vector: np.ndarray | None = None
    error_type: str | None = None

    @property
    def is_record(self) -> bool:
        """Whether it lies in a container file; a file of its own is named by its URI."""
        return self.uri != self.id


class Sample:
    """Keeps `size` of all images that it is offered, each with the same chance.

    Each image draws a number; those with the smallest stay.

    Args:
      size: how many to keep.
      seed: of the random numbers.
    """

    def __init__(self, size: int, seed: int):
        self._size = size
        self._random = np.random.default_rng(seed)
        self._kept: list[tuple[float, StoredImage]] = []

    @property
    def images(self) -> list[StoredImage]:
        """The sample, sorted by id."""
        return sorted((image for _, image in self._kept), key=lambda image: image.id)

    def offer_rows(self, table: pa.Table, vectors: np.ndarray) -> None:
        """Offers the rows of a part.

        Args:
          table: with the columns of a part.
          vectors: float32 [rows, N].
        """
        names = ["id", "uri", "version", "width", "height"]
        for draw, at in self._draw(len(table)):
            [row] = table.slice(at, 1).select(names).to_pylist()
            self._keep(draw, StoredImage(**row, vector=vectors[at].copy()))

    def offer_errors(self, table: pa.Table) -> None:
        """Offers error rows, but for those that follow from the moment or from other inputs."""
        names = ["id", "uri", "version", "error_type", "transient"]
        for draw, at in self._draw(len(table)):
            [row] = table.slice(at, 1).select(names).to_pylist()
            if not row.pop("transient") and row["error_type"] != UnusableInputError.__name__:
                self._keep(draw, StoredImage(**row))

    def _draw(self, count: int) -> list[tuple[float, int]]:
        """Numbers and positions of those that may stay."""
        draws = self._random.random(count)
        best = np.argsort(draws)[: self._size]
        return [(float(draws[at]), int(at)) for at in best if draws[at] < self._limit]

    @property
    def _limit(self) -> float:
        return 1.0 if len(self._kept) < self._size else self._kept[-1][0]

    def _keep(self, draw: float, image: StoredImage) -> None:
        self._kept.append((draw, image))
        self._kept.sort(key=lambda kept: kept[0])
        del self._kept[self._size :]
