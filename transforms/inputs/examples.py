"""The `tf.Example`s in TFRecord files: the encoded image, its id and the columns to keep."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Collection, Iterator
from typing import Any

from transforms.batches import ImageWarning
from transforms.errors import RecordError, one_line
from transforms.inputs.kept import KeptColumn, MisfitError, kept_value
from transforms.inputs.large_examples import PLAIN_BYTES, OverlongListError, with_features
from transforms.inputs.tfrecord_file import Place, read_records, scan
from transforms.machine.tensorflow_import import import_tensorflow
from transforms.refs import ImageRef
from transforms.storage.causes import is_transient

# Longer than any path or key; ids are held for all images at once.
MAX_ID_BYTES = 4096

# Records of more than this are looked at one at a time, whatever the number of threads.
_LARGE_BYTES = 2**24
_one_large_record = threading.Lock()


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
      RecordError: it is none, or has no single image, or a feature that is wanted is too long.
    """
    features = example_features(record, {spec.image_key, *(column.name for column in spec.keep)})
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


def example_features(record: bytes, names: Collection[str] | None = None) -> Any:
    """The features of a serialised `tf.Example` by name, as a protobuf map; None if it is none.

    Args:
      record: the Example.
      names: those that are looked at; of a large record the map has no others. None: all are.

    Raises:
      RecordError: one of them is longer than is reasonable.
    """
    if len(record) > PLAIN_BYTES:
        wanted = with_features(record, names)
        if wanted is None:
            return None
        record = wanted
    example, decode_error = _messages()
    message = example()
    try:
        message.ParseFromString(record)
    except decode_error:
        return None
    return message.features.feature


def example_ids(
    path: str, id_key: str, max_bytes: int = 2**28
) -> Iterator[tuple[Place, str | None]]:
    """`scan`, with the value of each record's id feature.

    None where the Example has no single, non-empty id, or a longer one than 4,096 bytes; "" where
    there is no readable Example of at most `max_bytes`, which reading it again will say.
    """
    places = list(scan(path))
    refs = [
        ImageRef("", path, "", place.length, index, place.offset)
        for index, place in enumerate(places)
    ]
    with contextlib.closing(read_records(path, refs, max_bytes)) as records:
        for place in places:
            is_large = (place.length or 0) > _LARGE_BYTES
            with _one_large_record if is_large else contextlib.nullcontext():
                value = _id_of(next(records), id_key)
            yield place, value


def _id_of(record: bytes | Exception, id_key: str) -> str | None:
    if isinstance(record, Exception):
        if is_transient(record):
            raise record  # without its id it would be another image
        return ""
    try:
        features = example_features(record, {id_key})
    except OverlongListError:
        return None
    except RecordError:
        return ""
    return "" if features is None else _single_id(features, id_key) or None


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
        if len(feature.bytes_list.value[0]) > MAX_ID_BYTES:
            return None
        with contextlib.suppress(UnicodeDecodeError):
            return str(feature.bytes_list.value[0], "utf-8")
    if len(feature.int64_list.value) == 1:
        return str(feature.int64_list.value[0])
    return None
