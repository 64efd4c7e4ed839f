"""How elements travel between processes: in a fixed layout, from which no code can come.

In a fused stage none does; a runner that does not fuse, or workers in other processes, encode them.
An element is JSON, with the bytes of its array behind it. Beam would pickle it, and whoever can
send a worker something pickled has it run anything.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import struct
from typing import Any

import apache_beam as beam
import numpy as np

from transforms.batches import (
    BatchPlace,
    FeatureBatch,
    ImageBatch,
    ImageRow,
    ImageWarning,
    StageSeconds,
)
from transforms.errors import ErrorRow
from transforms.refs import ImageRef
from transforms.shards import ShardPointer

_LENGTH = struct.Struct("<Q")
_BYTES = "base64"
_KINDS: dict[str, type[ImageBatch] | type[FeatureBatch]] = {
    kind.__name__: kind for kind in (ImageBatch, FeatureBatch)
}
_NUMBERS = "biuf"


class BatchCoder(beam.coders.Coder):
    """Batches as a header in JSON and the array; of a fused stage only its size is asked for."""

    def encode(self, value: ImageBatch | FeatureBatch) -> bytes:
        """The batch as bytes."""
        array = _array(value)
        is_numbers = array.dtype.kind != "O"
        header = {
            "kind": type(value).__name__,
            "dtype": array.dtype.str if is_numbers else "bytes",
            "shape": array.shape if is_numbers else [len(image) for image in array],
            "rows": [
                [
                    dataclasses.astuple(row.ref),
                    row.width,
                    row.height,
                    [_told(kept) for kept in row.kept],
                    [dataclasses.astuple(warning) for warning in row.warnings],
                ]
                for row in value.rows
            ],
            "errors": [dataclasses.astuple(error) for error in value.errors],
            "place": dataclasses.astuple(value.place),
            "seconds": dataclasses.astuple(value.seconds),
        }
        told = json.dumps(header).encode()
        content = array.tobytes() if is_numbers else b"".join(array)
        return _LENGTH.pack(len(told)) + told + content

    def decode(self, encoded: bytes) -> ImageBatch | FeatureBatch:
        """The batch that `encode` was given.

        Raises:
          ValueError, KeyError, TypeError, struct.error: it is none.
        """
        at = _LENGTH.size + _LENGTH.unpack_from(encoded)[0]
        header = json.loads(encoded[_LENGTH.size : at])
        return _KINDS[header["kind"]](
            _read_array(header["dtype"], header["shape"], memoryview(encoded)[at:]),
            tuple(map(_read_row, header["rows"])),
            tuple(ErrorRow(*error) for error in header["errors"]),
            BatchPlace(*header["place"]),
            StageSeconds(*header["seconds"]),
        )

    def is_deterministic(self) -> bool:
        """False: batches are never keys."""
        return False

    def estimate_size(self, value: ImageBatch | FeatureBatch) -> int:
        """About the bytes of the array, without encoding it."""
        array = _array(value)
        pixels = sum(map(len, array)) if array.dtype.kind == "O" else array.nbytes
        return pixels + 256 * (len(value.rows) + len(value.errors))


class PointerCoder(beam.coders.Coder):
    """Pointers to planned shards as JSON.

    >>> coder = PointerCoder()
    >>> coder.encode(ShardPointer("out/_plan/1.parquet", 3, "a" * 16, 9))
    b'["out/_plan/1.parquet", 3, "aaaaaaaaaaaaaaaa", 9]'
    >>> coder.decode(coder.encode(ShardPointer("p", 3, "s", 9)))
    ShardPointer(plan='p', row_group=3, name='s', size=9)
    """

    def encode(self, value: ShardPointer) -> bytes:
        """The pointer as bytes."""
        return json.dumps(dataclasses.astuple(value)).encode()

    def decode(self, encoded: bytes) -> ShardPointer:
        """The pointer that `encode` was given."""
        return ShardPointer(*json.loads(encoded))

    def is_deterministic(self) -> bool:
        """The same pointer always has the same bytes."""
        return True


def register_coders() -> None:
    """Makes Beam take these for the elements that flow here."""
    for element, coder in (
        (ImageBatch, BatchCoder),
        (FeatureBatch, BatchCoder),
        (ShardPointer, PointerCoder),
    ):
        beam.coders.registry.register_coder(element, coder)


def _array(value: ImageBatch | FeatureBatch) -> np.ndarray:
    return value.images if isinstance(value, ImageBatch) else value.features


def _read_array(dtype: str, shape: list[int], content: memoryview) -> np.ndarray:
    if dtype != "bytes":
        if np.dtype(dtype).kind not in _NUMBERS:
            raise ValueError(f"no numbers: {dtype}")
        return np.frombuffer(content, dtype).reshape(shape).copy()
    images, at = np.empty(len(shape), object), 0
    for place, size in enumerate(shape):
        images[place] = bytes(content[at : at + size])
        at += size
    return images


def _read_row(row: list[Any]) -> ImageRow:
    ref, width, height, kept, warnings = row
    return ImageRow(
        ImageRef(*ref),
        width,
        height,
        tuple(map(_read_told, kept)),
        tuple(ImageWarning(*warning) for warning in warnings),
    )


def _told(value: object) -> object:
    """A kept value, as JSON has it."""
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    return [_told(item) for item in value] if isinstance(value, list | tuple) else value


def _read_told(value: Any) -> object:
    if isinstance(value, dict):
        return base64.b64decode(value[_BYTES])
    return [_read_told(item) for item in value] if isinstance(value, list) else value
