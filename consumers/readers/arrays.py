"""From columns of vectors to NumPy: Arrow's own memory where it lies in one piece."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from consumers.readers.finished import FinishedPart, FinishedParts
from consumers.readers.scanning import each_part, scan_part
from transforms.errors import UserError

# Arrow decodes several row groups into one buffer in about three times its size.
_MOST_DECODED_AT_ONCE = 64 * 2**20


def vector_array(column: pa.Array) -> np.ndarray:
    """A column of vectors as NumPy, without a copy.

    Args:
      column: fixed_size_list<float32>[N], n long, without nulls; also a slice.

    Returns:
      float32 [n, N], a view of Arrow's buffer: not to be written to.

    Raises:
      UserError: there are nulls.

    >>> column = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    >>> vector_array(column[1:]).tolist()
    [[3.0, 4.0]]
    """
    values = column.flatten()
    if column.null_count or values.null_count:
        raise UserError("there are rows without a vector, or vectors that lack a number")
    return values.to_numpy(zero_copy_only=True).reshape(len(column), column.type.list_size)


def read_vectors(
    found: FinishedParts, where: pc.Expression | None, counts: Sequence[int]
) -> np.ndarray:
    """The vectors of all parts in one array.

    One part of up to 64 MiB is decoded as a whole and its buffer is the array. Otherwise there is
    one allocation, which the parts fill: the peak is the array and a few row groups.

    Args:
      found: the parts.
      where: which rows.
      counts: how many rows that is in each part.

    Returns:
      float32 [n, N], read-only, as it may be Arrow's memory.
    """
    size = sum(counts) * found.width * 4
    if len(found.parts) == 1 and where is None and 0 < size <= _MOST_DECODED_AT_ONCE:
        return _decoded(found, found.parts[0])
    vectors = np.empty((sum(counts), found.width), np.float32)
    ends = np.cumsum(counts)
    places = {
        part.name: vectors[end - count : end]
        for part, count, end in zip(found.parts, counts, ends, strict=True)
    }

    def fill(part: FinishedPart) -> None:
        place, at = places[part.name], 0
        for batch in scan_part(found, part, [found.vector_column], where):
            place[at : at + len(batch)] = vector_array(batch.column(0))
            at += len(batch)

    for _ in each_part(found, fill):
        pass
    vectors.flags.writeable = False
    return vectors


def _decoded(found: FinishedParts, part: FinishedPart) -> np.ndarray:
    with found.opened(part) as (_, parquet):
        column = parquet.read([found.vector_column], use_threads=False)[found.vector_column]
    return vector_array(column.chunk(0) if column.num_chunks == 1 else column.combine_chunks())
