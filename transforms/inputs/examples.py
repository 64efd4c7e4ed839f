"""The `tf.Example`s in TFRecord files: the encoded image, its id and the columns to keep."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from transforms.batches import ImageWarning
from transforms.errors import RecordError, one_line
from transforms.inputs.kept import KeptColumn, MisfitError, kept_value
from transforms.inputs.tfrecord_file import Place, read_records, scan
from transforms.machine.tensorflow_import import import_tensorflow
from transforms.refs import ImageRef
from transforms.storage.causes import is_transient


@dataclasses.dataclass(frozen=True)
class ExampleSpec:
    """Which features of a `tf.Example` are read.

    Attributes:
      image_key: bytes feature with one encoded image.
      id_key: bytes or int64 feature that names the image; None to name it by its place.
      keep: features that become columns.
    """

    image_key: str = "image/encoded"
    id_key: str | None = None
    keep: tuple[KeptColumn, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """What was read of one `tf.Example`.

    Attributes:
      image: the encoded image.
      kept: values of the kept columns.
      warnings: of values that did not fit their column and are None.
    """

    image: bytes
    kept: tuple[object, ...] = ()
    warnings: tuple[ImageWarning, ...] = ()


def parse_example(record: bytes, spec: ExampleSpec) -> Example:
    """The image of a serialised `tf.Example` and the values of the kept columns.

    Raises:
      RecordError: it is none, or has no single image.
    """
    features = example_features(record)
    if features is None:
        raise RecordError("not a tf.Example")
    image = _single_image(features, spec.image_key)
    kept: list[object] = []
    warnings: list[ImageWarning] = []
    for column in spec.keep:
        try:
            kept.append(kept_value(column, features))
        except MisfitError as error:
            kept.append(None)
            warnings.append(ImageWarning("keep", one_line(error)))
    return Example(image, tuple(kept), tuple(warnings))


def example_features(record: bytes) -> Any:
    """The features of a serialised `tf.Example` by name, as a protobuf map; None if it is none."""
    example, decode_error = _messages()
    message = example()
    try:
        message.ParseFromString(record)
    except decode_error:
        return None
    return message.features.feature


def example_ids(path: str, id_key: str) -> Iterator[tuple[Place, str | None]]:
    """`scan`, with the value of each record's id feature.

    None where the Example has no single, non-empty id; "" where there is no readable Example, which
    reading it again will say.
    """
    places = list(scan(path))
    refs = [ImageRef("", path, "", place.length, 0, place.offset) for place in places]
    records = read_records(path, refs, max_bytes=2**31)
    for place, record in zip(places, records, strict=True):
        value: str | None = ""
        if isinstance(record, Exception) and is_transient(record):
            raise record  # without its id it would be another image
        features = example_features(record) if isinstance(record, bytes) else None
        if features is not None:
            value = _single_id(features, id_key) or None
        yield place, value


@functools.cache
def _messages() -> tuple[Any, type[Exception]]:
    """The class of Examples, and what parsing raises."""
    import_tensorflow()
    from google.protobuf.message import DecodeError
    from tensorflow.core.example import example_pb2

    return example_pb2.Example, DecodeError


def _single_image(features: Any, key: str) -> bytes:
    kind = features[key].WhichOneof("kind") if key in features else None
    if kind is None:
        raise RecordError(f"the Example has no feature {key!r}")
    if kind != "bytes_list":
        raise RecordError(f"feature {key!r} holds {kind.removesuffix('_list')} values, no image")
    images = features[key].bytes_list.value
    if len(images) != 1:
        raise RecordError(f"feature {key!r} holds {len(images)} images, not 1")
    return bytes(images[0])


def _single_id(features: Any, key: str) -> str | None:
    if key not in features:
        return None
    feature = features[key]
    if len(feature.bytes_list.value) == 1:
        with contextlib.suppress(UnicodeDecodeError):
            return str(feature.bytes_list.value[0], "utf-8")
    if len(feature.int64_list.value) == 1:
        return str(feature.int64_list.value[0])
    return None
