"""Images that are rows although something was wrong with them: which, and what.

They lie in the part's footer, under a key of their own: they are committed with the rows, no column
changes, and who does not ask for them does not meet them. Counts by kind are in the footer's
description of the part and in `_run.json`.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Collection, Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage
from transforms.batches import ImageRow
from transforms.dataset.own_files import parquet_input
from transforms.dataset.snapshot import read_snapshot
from transforms.dataset.stored_json import check_kinds, is_text, list_of, object_of, parse_object

WARNINGS_KEY = b"image_features_warnings"

WARNING_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
    ]
)


@dataclasses.dataclass(frozen=True, slots=True)
class WarnedImage:
    """What was wrong with an image that is a row.

    Attributes:
      id: the image.
      kind: `jpeg`: libjpeg warned of its data; `keep`: a value for a kept column did not fit.
      message: on one line.
    """

    id: str
    kind: str
    message: str


def warned_images(rows: Iterable[ImageRow]) -> list[WarnedImage]:
    """The warnings of rows, in their order."""
    return [
        WarnedImage(row.ref.id, warning.kind, warning.message)
        for row in rows
        for warning in row.warnings
    ]


def count_by_kind(warned: Iterable[WarnedImage]) -> dict[str, int]:
    """How many images have warnings of each kind."""
    images = {(one.kind, one.id) for one in warned}
    return dict(sorted(collections.Counter(kind for kind, _ in images).items()))


def write_warnings(parquet: pq.ParquetWriter, warned: Collection[WarnedImage]) -> None:
    """Puts them into the footer, if there are any."""
    if warned:
        content = json.dumps([dataclasses.asdict(one) for one in warned])
        parquet.add_key_value_metadata({WARNINGS_KEY: content})


def read_warnings(path: str) -> list[WarnedImage]:
    """Those of a part.

    Raises:
      ValueError: they are not as this program writes them; the message names the part.
    """
    with parquet_input(path) as file:
        metadata = pq.read_metadata(file).metadata or {}
    try:
        found = parse_object(b'{"warned": %s}' % metadata.get(WARNINGS_KEY, b"[]"))
        check_kinds(found, {"warned": list_of(object_of(is_text))})
        return [WarnedImage(**one) for one in found["warned"]]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: its warnings are damaged: {error}") from error


def load_warnings(directory: str) -> pa.Table:
    """The images of the last finished run's state that are rows with a warning, and why.

    Args:
      directory: an output directory, local or `gs://`, `s3://`, `hdfs://`.

    Returns:
      a table with `WARNING_SCHEMA`: `id`, `kind`, `message`.
    """
    while True:
        snapshot = read_snapshot(directory)
        try:
            paths = [storage.join(directory, name) for name in snapshot.parts]
            found = [dataclasses.asdict(one) for path in paths for one in read_warnings(path)]
            return pa.Table.from_pylist(found, WARNING_SCHEMA)
        except FileNotFoundError:  # replaced by a run that has finished since
            if read_snapshot(directory).generation == snapshot.generation:
                raise
