"""Whether two contenders did the same work: the vectors that each wrote, side by side."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np
import pyarrow.parquet as pq


@dataclasses.dataclass(frozen=True)
class Likeness:
    """How far one contender's vectors are from another's.

    Attributes:
      images: how many both have; it is all of them.
      largest_difference: of any value.
      smallest_cosine: between an image's two vectors.
    """

    images: int
    largest_difference: float
    smallest_cosine: float


def read_vectors(directory: str | os.PathLike) -> dict[str, np.ndarray]:
    """Vectors by the last part of the image's id, from all Parquet files of an output."""
    vectors: dict[str, np.ndarray] = {}
    for path in sorted(pathlib.Path(directory).glob("*.parquet")):
        table = pq.read_table(path, columns=["id", "feature_vector"])
        for image_id, vector in zip(
            *(table[n].to_pylist() for n in table.column_names), strict=True
        ):
            name = image_id.rsplit("/", 1)[-1]
            if name in vectors:
                raise ValueError(f"{directory}: {name} is there twice")
            vectors[name] = np.asarray(vector, np.float64)
    return vectors


def compare(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> Likeness:
    """Compares two outputs.

    Raises:
      ValueError: they are not of the same images.
    """
    if got.keys() != expected.keys():
        other = sorted(got.keys() ^ expected.keys())
        raise ValueError(f"{len(got)} images against {len(expected)}; not in both: {other[:5]}")
    a, b = (np.stack([vectors[name] for name in sorted(expected)]) for vectors in (got, expected))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = (a * b).sum(axis=1) / norms
    return Likeness(len(a), float(np.abs(a - b).max()), float(cosines.min()))
