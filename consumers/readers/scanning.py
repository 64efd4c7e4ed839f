"""From parts to batches of rows: only the columns and rows that were asked for are decoded.

Part by part and row group by row group, in one order whoever reads, and never more than a few
row groups at once in memory. Arrow's threads call no Python here: they might end the process with
an abort where it ends meanwhile.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from consumers.readers.finished import FinishedPart, FinishedParts
from transforms.errors import Parameter, UserError

# As many as a row group of our own writer has.
_DECODED_ROWS = 1024

_PART_THREADS = 4

_Result = TypeVar("_Result")


def check_columns(found: FinishedParts, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns, if they are there and none is named twice.

    Raises:
      UserError: the message names the one that is not.
    """
    if not columns:
        raise UserError("name at least one", subject=Parameter("columns"))
    for position, name in enumerate(columns):
        if name not in found.schema.names:
            there = ", ".join(found.schema.names)
            raise UserError(
                f"there is no such column in {found.directory}; there are {there}",
                subject=Parameter("columns", name),
            )
        if name in columns[:position]:
            raise UserError("is named twice", subject=Parameter("columns", name))
    return tuple(columns)


def check_filter(found: FinishedParts, where: pc.Expression | None) -> None:
    """Tries a filter on no rows.

    Raises:
      UserError: it speaks of a column that is not there, or compares what cannot be compared.
    """
    if where is None:
        return
    try:
        ds.dataset(found.schema.empty_table()).to_table(filter=where)
    except (pa.ArrowException, TypeError) as error:
        there = ", ".join(found.schema.names)
        why = str(error).partition("\n")[0]
        raise UserError(
            f"does not fit the columns {there}: {why}", subject=Parameter("where", str(where))
        ) from error


def count_rows(found: FinishedParts, where: pc.Expression | None) -> tuple[int, ...]:
    """How many rows of each part there are, or fit the filter; no vector is read for it."""
    if where is None:
        return tuple(part.rows for part in found.parts)

    def count(part: FinishedPart) -> int:
        with found.opened(part) as (file, _):
            return int(np.count_nonzero(_fitting(file, where)))

    return tuple(each_part(found, count))


def scan_part(
    found: FinishedParts,
    part: FinishedPart,
    columns: Sequence[str],
    where: pc.Expression | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of one part, in their order.

    Yields:
      batches of the columns, in the order asked for; of at least one row and at most 1024.

    Raises:
      UserError: the part has been replaced or deleted since, or is damaged.
    """
    schema = pa.schema([found.schema.field(name) for name in columns])
    with found.opened(part) as (file, parquet):
        groups, fits = _wanted(file, parquet, where)
        at = 0
        for batch in parquet.iter_batches(
            _DECODED_ROWS, row_groups=groups, columns=list(columns), use_threads=False
        ):
            arrays = batch.select(list(columns)).columns
            if fits is not None:
                mask = pa.array(fits[at : at + len(batch)])
                arrays = [array.filter(mask) for array in arrays]
            at += len(batch)
            if len(arrays[0]):
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def each_part(found: FinishedParts, work: Callable[[FinishedPart], _Result]) -> Iterator[_Result]:
    """Does something with each part, several at once; the results in the order of the parts."""
    with concurrent.futures.ThreadPoolExecutor(_PART_THREADS) as pool:
        yield from pool.map(work, found.parts)


def in_batches(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `size`; the last one has what is left."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        while rows + len(batch) >= size:
            missing = size - rows
            yield _joined([*waiting, batch.slice(0, missing)])
            batch, waiting, rows = batch.slice(missing), [], 0
        if len(batch):
            waiting.append(batch)
            rows += len(batch)
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _wanted(
    file: pa.NativeFile, parquet: pq.ParquetFile, where: pc.Expression | None
) -> tuple[list[int], np.ndarray | None]:
    """The row groups with rows that fit, and which of their rows do; None for all."""
    groups = list(range(parquet.num_row_groups))
    if where is None:
        return groups, None
    ends = np.cumsum([parquet.metadata.row_group(group).num_rows for group in groups])
    pieces = np.split(_fitting(file, where), ends[:-1]) if groups else []
    groups = [group for group in groups if pieces[group].any()]
    return groups, np.concatenate([pieces[group] for group in groups]) if groups else None


def _fitting(file: pa.NativeFile, where: pc.Expression) -> np.ndarray:
    """Which rows fit, bool [rows]; only the columns of which the filter speaks are decoded."""
    fragment = ds.ParquetFileFormat().make_fragment(file)
    fits = fragment.to_table(columns={"fits": where})["fits"]
    return pc.fill_null(fits, False).to_numpy()
