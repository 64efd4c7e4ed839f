"""The `tf.Example`s in TFRecord files: the encoded image, its id and the columns to keep."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, Literal

import pyarrow as pa

from transforms.errors import Parameter, RecordError, UserError, one_line
from transforms.inputs.tfrecord_file import Place, read_records, scan
from transforms.machine.tensorflow_import import import_tensorflow
from transforms.refs import ImageRef
from transforms.storage.causes import is_transient

_EXAMPLES_LOOKED_AT = 10

ColumnKind = Literal["string", "binary", "int64", "float32"]


@dataclasses.dataclass(frozen=True)
class KeptColumn:
    """A feature of the Examples that is passed through to the rows.

    Attributes:
      name: of the feature and of the column.
      kind: Arrow type of one value.
      is_list: whether a row holds a list of values instead of one.
    """

    name: str
    kind: ColumnKind
    is_list: bool = False


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
    """What was read of one `tf.Example`: the encoded image and the values of the kept columns."""

    image: bytes
    kept: tuple[object, ...] = ()


class ExampleParser:
    """Parses serialised `tf.Example`s with tfx-bsl's Arrow decoder. Not to be shared by threads."""

    def __init__(self, spec: ExampleSpec):
        self._spec = spec
        self._decoder: Any = None

    def parse(self, records: list[bytes]) -> list[Example | RecordError]:
        """One result for each record, in order: the Example, or why it cannot be used.

        The decoder refuses a whole batch for one bad record; then they are parsed one at a time.
        """
        if not records:
            return []
        self._decoder = self._decoder or _decoder(self._spec)
        try:
            return _examples(self._decoder.DecodeBatch(records), self._spec)
        except RuntimeError as error:
            self._decoder = None  # it still holds the records before the bad one
            if len(records) > 1:
                return [parsed for record in records for parsed in self.parse([record])]
            return [RecordError(f"not a tf.Example with the features asked for: {error}")]


def example_ids(path: str, id_key: str) -> Iterator[tuple[Place, str | None]]:
    """`scan`, with the value of each record's id feature.

    None where the Example has no single, non-empty id; "" where there is no readable Example, which
    reading it again will say.
    """
    from google.protobuf.message import DecodeError

    new_example = _example_class()
    places = list(scan(path))
    refs = [ImageRef("", path, "", place.length, 0, place.offset) for place in places]
    records = read_records(path, refs, max_bytes=2**31)
    for place, record in zip(places, records, strict=True):
        value: str | None = ""
        if isinstance(record, Exception) and is_transient(record):
            raise record  # without its id it would be another image
        if isinstance(record, bytes):
            example = new_example()
            with contextlib.suppress(DecodeError):
                example.ParseFromString(record)
                value = _single_id(example.features.feature.get(id_key)) or None
        yield place, value


def infer_columns(path: str, names: list[str]) -> tuple[KeptColumn, ...]:
    """The types of the features `names`, as the first readable Example of `path` has them.

    Raises:
      UserError: if there is no readable Example, or it lacks one of the features.
    """
    for features in _readable_features(path):
        missing = [name for name in names if name not in features]
        if missing:
            raise UserError(
                f"the first Example of {path} has no such feature; it has "
                f"{', '.join(sorted(features))}",
                subject=Parameter("keep", ",".join(missing)),
            )
        return tuple(_column(name, features[name]) for name in names)
    raise UserError(
        f"{path} holds no readable tf.Example to take the column types from",
        subject=Parameter("keep"),
    )


def check_feature(path: str, key: Parameter) -> None:
    """Refuses the name of a feature that none of the first Examples of `path` has.

    Args:
      path: a TFRecord file.
      key: `image_key` or `id_key` of an `ExampleSpec`, with the feature's name.

    Raises:
      UserError: names the features that there are.
    """
    seen: set[str] = set()
    for features in itertools.islice(_readable_features(path), _EXAMPLES_LOOKED_AT):
        if key.value in features:
            return
        seen.update(features)
    if seen:
        raise UserError(
            f"the first Examples of {path} have no such feature; they have "
            f"{', '.join(sorted(seen))}",
            subject=key,
        )


def _readable_features(path: str) -> Iterator[Any]:
    """The features of each Example of a file that can be read.

    Raises:
      UserError: the file cannot be opened.
    """
    from google.protobuf.message import DecodeError

    new_example = _example_class()
    try:
        places = list(scan(path))
    except OSError as error:
        raise UserError(f"cannot be read: {one_line(error)}", subject=path) from error
    for place in places:
        ref = ImageRef("", path, "", place.length, 0, place.offset)
        [record] = read_records(path, [ref], max_bytes=2**31)
        if isinstance(record, Exception):
            continue
        example = new_example()
        try:
            example.ParseFromString(record)
        except DecodeError:
            continue
        yield example.features.feature


def _example_class() -> Any:
    import_tensorflow()
    from tensorflow.core.example import example_pb2

    return example_pb2.Example


def _decoder(spec: ExampleSpec) -> Any:
    from tensorflow_metadata.proto.v0 import schema_pb2
    from tfx_bsl.coders import example_coder

    types = {
        "string": schema_pb2.BYTES,
        "binary": schema_pb2.BYTES,
        "int64": schema_pb2.INT,
        "float32": schema_pb2.FLOAT,
    }
    wanted = {spec.image_key: schema_pb2.BYTES}
    wanted.update({column.name: types[column.kind] for column in spec.keep})
    schema = schema_pb2.Schema()
    for name, kind in wanted.items():
        schema.feature.add(name=name, type=kind)
    return example_coder.ExamplesToRecordBatchDecoder(schema.SerializeToString())


def _examples(batch: pa.RecordBatch, spec: ExampleSpec) -> list[Example | RecordError]:
    images = batch.column(batch.schema.get_field_index(spec.image_key)).to_pylist()
    columns = [
        batch.column(batch.schema.get_field_index(column.name)).to_pylist() for column in spec.keep
    ]
    parsed: list[Example | RecordError] = []
    for row, image in enumerate(images):
        try:
            if not image:
                raise RecordError(f"the Example has no feature {spec.image_key!r}")
            if len(image) != 1:
                raise RecordError(f"feature {spec.image_key!r} holds {len(image)} images, not 1")
            kept = tuple(
                _kept_value(column, values[row])
                for column, values in zip(spec.keep, columns, strict=True)
            )
            parsed.append(Example(image[0], kept))
        except RecordError as error:
            parsed.append(error)
    return parsed


def _kept_value(column: KeptColumn, values: list | None) -> object:
    if values is None:
        return None
    if column.kind == "string":
        try:
            values = [value.decode("utf-8") for value in values]
        except UnicodeDecodeError:
            raise RecordError(f"feature {column.name!r} is not UTF-8 text") from None
    if column.is_list:
        return values
    if len(values) > 1:
        raise RecordError(f"feature {column.name!r} holds {len(values)} values, not 1")
    return values[0] if values else None


def _column(name: str, feature: Any) -> KeptColumn:
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else []
    if kind == "int64_list":
        return KeptColumn(name, "int64", len(values) != 1)
    if kind == "float_list":
        return KeptColumn(name, "float32", len(values) != 1)
    try:
        for value in values:
            value.decode("utf-8")
        return KeptColumn(name, "string", len(values) > 1)
    except UnicodeDecodeError:
        return KeptColumn(name, "binary", len(values) > 1)


def _single_id(feature: Any) -> str | None:
    if feature is None:
        return None
    if len(feature.bytes_list.value) == 1:
        try:
            return feature.bytes_list.value[0].decode("utf-8")
        except UnicodeDecodeError:
            return None
    if len(feature.int64_list.value) == 1:
        return str(feature.int64_list.value[0])
    return None
