"""A committed part, as its footer tells of it.

`part exists` ⇔ `shard committed`; there is no second ledger that could disagree.
"""

from __future__ import annotations

import dataclasses
import json

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage

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


def read_part(path: str) -> Part:
    """Reads a part's footer.

    Raises:
      ValueError: the file is damaged or was not written by this version; the message names it.
    """
    try:
        with storage.arrow_input(path) as file:
            metadata = pq.read_metadata(file).metadata or {}
        footer = json.loads(metadata[FOOTER_KEY])
        known = {field.name for field in dataclasses.fields(Part)}
        part = Part(**{name: value for name, value in footer.items() if name in known})
        is_newer = part.format_version > FORMAT_VERSION
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} was not written by this program") from error
    if is_newer:
        raise ValueError(
            f"{path} was written by a newer version of this program ({footer.get('program')})"
        )
    return part
