"""A committed part, as its footer tells of it.

`part exists` ⇔ `shard committed`; there is no second ledger that could disagree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.dataset.layout import is_errors_name, is_part_name, part_name
from transforms.dataset.own_files import parquet_input
from transforms.dataset.stored_json import (
    check_kinds,
    is_count,
    is_number,
    is_text,
    object_of,
    parse_object,
)

FOOTER_KEY = b"image_features"

# Of a part that says none, 1. A reader of this version reads all up to it.
FORMAT_VERSION = 1

# Settings of a fingerprint that came later than outputs that lack them. They stand in it only where
# they are another one.
FINGERPRINT_DEFAULTS = {"value_range": "0,1", "model_layout": "NHWC"}


@dataclasses.dataclass(frozen=True)
class Part:
    """A committed part, as its footer describes it.

    Attributes:
      shard: name of the shard.
      rows, errors: how many of the shard's refs became which.
      errors_file: name of the file in `_errors/` with the error rows, or None.
      seconds: time spent by stage, as in `StageSeconds`.
      fingerprint: the settings that decided the numbers.
      versions: of the libraries that computed them, by name; {} where an earlier program did not
        tell.
      format_version: of the format of the part.
      warnings: how many rows have a warning, by kind; see `transforms.dataset.warned`.
    """

    shard: str
    rows: int
    errors: int
    errors_file: str | None
    seconds: dict[str, float]
    fingerprint: dict[str, str]
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    warnings: dict[str, int] = dataclasses.field(default_factory=dict)


_REQUIRED = {
    "shard": lambda found: is_text(found) and is_part_name(part_name(found)),
    "rows": is_count,
    "errors": is_count,
    "errors_file": lambda found: found is None or (is_text(found) and is_errors_name(found)),
    "seconds": object_of(is_number),
    "fingerprint": object_of(is_text),
}
_OPTIONAL = {
    "versions": object_of(is_text),
    "format_version": is_count,
    "warnings": object_of(is_count),
    "program": is_text,
}

# Of what a footer says of its part; the ids of rows with warnings lie beside it.
_MOST_BYTES = 2**22


def read_part(path: str) -> Part:
    """Reads a part's footer.

    Raises:
      ValueError: the file is damaged or was not written by this version; the message names it.
      OSError: it cannot be read, or is a link.
    """
    try:
        with parquet_input(path) as file:
            metadata = pq.read_metadata(file).metadata or {}
    except (pa.ArrowException, UnicodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    footer = read_footer(path, metadata)
    known = {field.name for field in dataclasses.fields(Part)}
    return Part(**{name: value for name, value in footer.items() if name in known})


def read_footer(path: str, metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """What the metadata of a part's Parquet file say of it, and its writer as `program`.

    Raises:
      ValueError: it was not written by this program, or by a newer version of it.
    """
    text = metadata.get(FOOTER_KEY, b"")
    is_newer = False
    try:
        if len(text) > _MOST_BYTES:
            raise ValueError(f"its footer has more than {_MOST_BYTES:,} bytes")
        footer = parse_object(text)
        version = footer.get("format_version", FORMAT_VERSION)
        is_newer = is_count(version) and version > FORMAT_VERSION
        if not is_newer:
            check_kinds(footer, _REQUIRED, _OPTIONAL)
    except ValueError as error:
        raise ValueError(f"{path} was not written by this program: {error}") from error
    if is_newer:
        raise ValueError(
            f"{path} was written by a newer version of this program ({footer.get('program')})"
        )
    return footer
