"""From columns to rows that can be asked for in any order, as PyTorch's DataLoader asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


class FeatureRows:
    """A map-style dataset in memory: what `torch.utils.data.DataLoader` takes.

    PyTorch is not needed for it. The loader's default collation makes of the rows a dictionary of
    a float32 tensor [b, N], tensors of numbers and lists of text.

    Args:
      others: the columns that are no vectors, n rows.
      vectors: float32 [n, N] by the name of their column; empty where that is not wanted.

    >>> rows = FeatureRows(pa.table({"id": ["a", "b"]}), {"v": np.eye(2, dtype=np.float32)})
    >>> len(rows), rows[1]
    (2, {'id': 'b', 'v': array([0., 1.], dtype=float32)})
    """

    def __init__(self, others: pa.Table, vectors: dict[str, np.ndarray]):
        self._others = others.combine_chunks()  # else each taking would join them
        self._vectors = vectors
        self._length = len(next(iter(vectors.values()))) if vectors else len(others)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The row at a position, by column; its vector is a copy, float32 [N].

        Raises:
          IndexError: there is none.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The rows at some positions, as `__getitem__` gives them, each column gathered once."""
        at = np.asarray(indices, np.int64)
        at = np.where(at < 0, at + self._length, at)
        if np.any((at < 0) | (at >= self._length)):
            raise IndexError(f"there are {self._length} rows")
        rows = self._others.take(at).to_pylist() if self._others.num_columns else [{} for _ in at]
        for name, vectors in self._vectors.items():
            # A copy: PyTorch warns of arrays that must not be written to.
            for row, vector in zip(rows, vectors[at], strict=True):
                row[name] = vector
        return rows
