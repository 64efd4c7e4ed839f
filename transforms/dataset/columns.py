"""The columns of a part: from a feature batch to an Arrow table."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from transforms.batches import FeatureBatch, ImageRow
from transforms.dataset import scores
from transforms.errors import Parameter, UserError
from transforms.inputs.kept import KeptColumn
from transforms.models.source import Task

_ARROW_TYPES = {
    "string": pa.string(),
    "binary": pa.binary(),
    "int64": pa.int64(),
    "float32": pa.float32(),
}


@dataclasses.dataclass(frozen=True)
class PartFormat:
    """The columns of a part and what its footer says.

    Attributes:
      task: decides the name of the vector column, `feature_vector` or `logits`.
      width: length of the vectors: N features or C classes.
      has_label: whether there is a `label` column.
      kept: columns passed through from Examples.
      top_k: how many best classes go into a `top_k` column; 0 for none.
      class_names: names of the C classes, or empty.
      activation: what makes scores of logits for `top_k`.
      fingerprint: the settings that decide the numbers, as sorted (name, value) pairs.
      program: name and version of the writer.
    """

    task: Task
    width: int
    has_label: bool = False
    kept: tuple[KeptColumn, ...] = ()
    top_k: int = 0
    class_names: tuple[str, ...] = ()
    activation: scores.Activation = "none"
    fingerprint: tuple[tuple[str, str], ...] = ()
    program: str = ""

    @property
    def vector_column(self) -> str:
        """Name of the column with the model's answers."""
        return "feature_vector" if self.task == "feature_vector" else "logits"

    def schema(self) -> pa.Schema:
        """The Arrow schema of a part.

        Raises:
          UserError: a kept column has the name of another column.
        """
        fields = [
            pa.field("id", pa.string(), nullable=False),
            pa.field("uri", pa.string(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("version", pa.string(), nullable=False),
        ]
        if self.has_label:
            fields.append(pa.field("label", pa.string()))
        for column in self.kept:
            kind = _ARROW_TYPES[column.kind]
            fields.append(pa.field(column.name, pa.list_(kind) if column.is_list else kind))
        vector = pa.list_(pa.field("element", pa.float32(), nullable=False), self.width)
        fields.append(pa.field(self.vector_column, vector, nullable=False))
        if self.top_k:
            fields.append(pa.field("top_k", pa.list_(scores.TOP_K_TYPE)))
        names = [field.name for field in fields]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise UserError(
                "the part has a column of that name",
                subject=Parameter("keep", ", ".join(sorted(twice))),
            )
        return pa.schema(fields)


def rows_to_table(batch: FeatureBatch, part_format: PartFormat, schema: pa.Schema) -> pa.Table:
    """A feature batch as an Arrow table.

    Raises:
      ValueError: the vectors have another length than the part's.
    """
    if batch.features.shape[1] != part_format.width:
        raise ValueError(
            f"the model answers vectors of length {batch.features.shape[1]}, at launch it was "
            f"{part_format.width}"
        )
    columns = [_row_column(batch.rows, field) for field in list(schema)[:5]]
    if part_format.has_label:
        columns.append(pa.array([row.ref.label for row in batch.rows], pa.string()))
    for position, column in enumerate(part_format.kept):
        values = [row.kept[position] if row.kept else None for row in batch.rows]
        columns.append(pa.array(values, schema.field(column.name).type))
    vectors = np.ascontiguousarray(batch.features, np.float32).reshape(-1)
    vector_type = schema.field(part_format.vector_column).type
    columns.append(pa.FixedSizeListArray.from_arrays(vectors, type=vector_type))
    if part_format.top_k:
        columns.append(
            scores.top_k_column(
                batch.features,
                part_format.top_k,
                part_format.activation,
                part_format.class_names,
            )
        )
    return pa.table(columns, schema=schema)


def _row_column(rows: tuple[ImageRow, ...], field: pa.Field) -> pa.Array:
    if field.name in ("width", "height"):
        values: list[object] = [getattr(row, field.name) for row in rows]
    else:
        values = [getattr(row.ref, field.name) for row in rows]
    return pa.array(values, field.type)
