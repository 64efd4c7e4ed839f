"""Feature vectors as the library that you use takes them: start at `load_features`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from consumers.readers.arrays import read_vectors, vector_array
from consumers.readers.finished import FinishedPart, FinishedParts, find_finished
from consumers.readers.frames import vectors_in_frame
from consumers.readers.rows import FeatureRows
from consumers.readers.scanning import (
    check_columns,
    check_filter,
    count_rows,
    each_part,
    in_batches,
    scan_part,
)
from consumers.readers.tensors import tensor_dataset
from transforms.errors import Parameter, UserError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import tensorflow as tf

_ROWS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """Rows of a dataset as one finished run left them, always in the same order.

    Nothing but footers is read before one of its methods is called. All of them see the same rows,
    whatever runs finish meanwhile: what those replace is read as long as they keep it, and refused
    with a `UserError` then.

    Attributes:
      found: the parts, which are of one format and fingerprint.
      columns: that are wanted, in this order.
      where: which rows; None for all.
    """

    found: FinishedParts
    columns: tuple[str, ...]
    where: pc.Expression | None = None

    @functools.cached_property
    def _counts(self) -> tuple[int, ...]:
        return count_rows(self.found, self.where)

    def __len__(self) -> int:
        """How many rows; with a filter, its columns are read, and otherwise only metadata."""
        return sum(self._counts)

    @property
    def fingerprint(self) -> dict[str, str]:
        """The settings that decided the numbers; {} where there is no part."""
        return self.found.fingerprint

    @property
    def width(self) -> int:
        """Length N of the vectors; 0 where there is no part to tell."""
        return self.found.width

    @property
    def vector_column(self) -> str:
        """Name of the column of vectors: `feature_vector` or `logits`."""
        return self.found.vector_column

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types of `columns`."""
        return pa.schema([self.found.schema.field(name) for name in self.columns])

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """Of the images, in the order of the rows: object [n] of str."""
        return self.select(["id"]).to_arrow()["id"].to_numpy()

    def select(self, columns: Sequence[str]) -> Features:
        """The same rows with other columns.

        Raises:
          UserError: there is no such column.
        """
        return dataclasses.replace(self, columns=check_columns(self.found, columns))

    def batches(self, batch_size: int) -> Iterator[pa.RecordBatch]:
        """The rows in batches; memory is that of a batch and a row group, however many there are.

        Args:
          batch_size: rows of each batch; the last one has what is left.

        Yields:
          batches of `columns`; `vector_array(batch["feature_vector"])` is float32 [b, N].
        """
        _check_batch_size(batch_size)
        parts = (self._scan(part) for part in self.found.parts)
        return in_batches((batch for part in parts for batch in part), batch_size)

    def to_arrow(self) -> pa.Table:
        """All rows of `columns`."""
        read = each_part(self.found, lambda part: list(self._scan(part)))
        return pa.Table.from_batches([batch for part in read for batch in part], self.schema)

    def to_numpy(self) -> np.ndarray:
        """All vectors, whatever `columns` are.

        Returns:
          float32 [n, N], read-only. Of one part of up to 64 MiB without a filter: Arrow's buffer
          itself. Otherwise one allocation, and a few row groups more while it is filled.
        """
        return read_vectors(self.found, self.where, self._counts)

    def to_numpy_on_disk(self, into: np.ndarray) -> np.ndarray:
        """All vectors, in an array that need not fit into memory.

        Args:
          into: float32 [n, N], such as a `numpy.memmap`.
        """
        at = 0
        for batch in self.select([self.vector_column]).batches(_ROWS_AT_ONCE):
            into[at : at + len(batch)] = vector_array(batch.column(0))
            at += len(batch)
        return into

    def to_pandas(self) -> pd.DataFrame:
        """All rows of `columns`; vectors are float32 [N], rows of one array [n, N].

        `numpy.stack(frame["feature_vector"])` makes an array of them again; `to_numpy` has it
        without a copy.
        """
        if not self._has_vectors:
            return self.to_arrow().to_pandas()
        at = self.columns.index(self.vector_column)
        return vectors_in_frame(self._others(), self.vector_column, self.to_numpy(), at)

    def to_polars(self) -> pl.DataFrame:
        """All rows of `columns`; vectors are of the type `Array(Float32, N)`, and not copied."""
        import polars as pl

        return pl.DataFrame(pl.from_arrow(self.to_arrow(), rechunk=False))

    def to_tf_dataset(self, batch_size: int) -> tf.data.Dataset:
        """The rows in batches, read anew in each epoch; memory as in `batches`.

        Args:
          batch_size: rows of each batch; the last one has what is left.

        Returns:
          dictionaries by column: vectors as float32 [b, N]; text and bytes as tf.string [b];
          numbers [b] of their own type; lists as ragged [b, None].

        Raises:
          UserError: a column has a type that TensorFlow has not, or rows without a value.
        """
        _check_batch_size(batch_size)
        self._refuse_missing_values()
        count = -(-len(self) // batch_size)
        return tensor_dataset(self.schema, lambda: self.batches(batch_size), count)

    def to_torch(self) -> FeatureRows:
        """The rows for `torch.utils.data.DataLoader`, in memory; PyTorch itself is not needed.

        Returns:
          a map-style dataset; a row is a dictionary by column, its vector float32 [N] of NumPy.
        """
        vectors = {self.vector_column: self.to_numpy()} if self._has_vectors else {}
        return FeatureRows(self._others(), vectors)

    @property
    def _has_vectors(self) -> bool:
        return self.vector_column in self.columns

    def _others(self) -> pa.Table:
        names = [name for name in self.columns if name != self.vector_column]
        return self.select(names).to_arrow() if names else pa.table({})

    def _scan(self, part: FinishedPart) -> Iterator[pa.RecordBatch]:
        return scan_part(self.found, part, self.columns, self.where)

    def _refuse_missing_values(self) -> None:
        for field in self.schema:
            if field.nullable:
                missing = pc.field(field.name).is_null()
                both = missing if self.where is None else self.where & missing
                if count := sum(count_rows(self.found, both)):
                    raise UserError(
                        f"{count} rows have no value there; leave them out with "
                        f"where=pyarrow.compute.field({field.name!r}).is_valid()",
                        subject=Parameter("columns", field.name),
                    )


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError("must be at least 1", subject=Parameter("batch_size", batch_size))


def load_features(
    out: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None
) -> Features:
    """The rows of the last finished run, whatever other runs do meanwhile.

    Args:
      out: an output directory, local or `gs://`, `s3://`, `hdfs://`.
      columns: which ones; None for all.
      where: which rows, such as `pyarrow.compute.field("label") == "cat"`; None for all.

    Raises:
      UserError: no run has finished there; a part is damaged, a link, or of other columns or
        settings than the others; there is no such column, or the filter does not fit.
      FileNotFoundError: a part is missing.
    """
    found = find_finished(str(out))
    check_filter(found, where)
    return Features(
        found, check_columns(found, found.schema.names if columns is None else columns), where
    )
