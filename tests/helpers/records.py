"""TFRecord files as TensorFlow writes them."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

# Bytes before and after a record's data.
HEADER = 12
TRAILER = 4

Values = Sequence[bytes] | Sequence[int] | Sequence[float]


def write_records(path: pathlib.Path, records: list[bytes], compression: str = "") -> str:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def starts(records: list[bytes]) -> list[int]:
    """Where TensorFlow puts each record."""
    return [sum(HEADER + len(r) + TRAILER for r in records[:i]) for i in range(len(records))]


def example(**features: Values) -> bytes:
    """A serialised tf.Example; `image` stands for the usual key `image/encoded`."""
    import tensorflow as tf

    message = tf.train.Example()
    for name, values in features.items():
        feature = message.features.feature["image/encoded" if name == "image" else name]
        if all(isinstance(value, bytes) for value in values):
            feature.bytes_list.value.extend(values)
        elif all(isinstance(value, int) for value in values):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return message.SerializeToString()
