"""From batches of rows to a `tf.data.Dataset` of dictionaries by column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from consumers.readers.arrays import vector_array
from transforms.errors import Parameter, UserError

if TYPE_CHECKING:
    import tensorflow as tf


def tensor_dataset(
    schema: pa.Schema, batches: Callable[[], Iterator[pa.RecordBatch]], count: int
) -> tf.data.Dataset:
    """A dataset that reads the batches anew in each epoch, one ahead of who takes them.

    Args:
      schema: of the batches; no value may be missing in them.
      batches: begins to read.
      count: how many batches there are.

    Returns:
      dictionaries by column: vectors as float32 [b, N]; text and bytes as tf.string [b]; numbers
      [b] of their own type; lists as ragged [b, None].

    Raises:
      UserError: a column is of a type that TensorFlow has not.
    """
    import tensorflow as tf

    signature = {field.name: _spec(field) for field in schema}

    def tensors() -> Iterator[dict[str, Any]]:
        for batch in batches():
            yield {field.name: _tensor(batch[field.name]) for field in schema}

    dataset = tf.data.Dataset.from_generator(tensors, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(1)


def _spec(field: pa.Field) -> Any:
    import tensorflow as tf

    kind = field.type
    if pa.types.is_fixed_size_list(kind):
        return tf.TensorSpec([None, kind.list_size], tf.float32)
    if pa.types.is_list(kind):
        return tf.RaggedTensorSpec([None, None], _dtype(field, kind.value_type))
    return tf.TensorSpec([None], _dtype(field, kind))


def _dtype(field: pa.Field, kind: pa.DataType) -> Any:
    import tensorflow as tf

    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return tf.string
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return tf.as_dtype(kind.to_pandas_dtype())
    raise UserError(
        f"TensorFlow has no {field.type}; name the columns that you need",
        subject=Parameter("columns", field.name),
    )


def _tensor(column: pa.Array) -> Any:
    import tensorflow as tf

    if pa.types.is_fixed_size_list(column.type):
        return vector_array(column)
    if pa.types.is_list(column.type):
        splits = column.offsets.to_numpy() - column.offsets[0].as_py()
        return tf.RaggedTensor.from_row_splits(_flat(column.flatten()), splits.astype(np.int64))
    return _flat(column)


def _flat(values: pa.Array) -> np.ndarray:
    if pa.types.is_string(values.type):
        values = values.cast(pa.binary())
    return values.to_numpy(zero_copy_only=False)
