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


@dataclasses.dataclass(frozen=True)
class Part:
    """A committed part, as its footer describes it.

    Attributes:
      shard: name of the shard.
      rows, errors: how many of the shard's refs became which.
      errors_file: name of the file in `_errors/` with the error rows, or None.
      seconds: time spent by stage, as in `StageSeconds`.
      fingerprint: the settings that decided the numbers.
    """

    shard: str
    rows: int
    errors: int
    errors_file: str | None
    seconds: dict[str, float]
    fingerprint: dict[str, str]


def read_part(path: str) -> Part:
    """Reads a part's footer.

    Raises:
      ValueError: the file is damaged or was not written by this version; the message names it.
    """
    try:
        with storage.arrow_input(path) as file:
            metadata = pq.read_metadata(file).metadata or {}
        footer = json.loads(metadata[FOOTER_KEY])
        return Part(**{field.name: footer[field.name] for field in dataclasses.fields(Part)})
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    except KeyError as error:
        raise ValueError(
            f"{path} was not written by this program, or by another version of it"
        ) from error
