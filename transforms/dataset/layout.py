"""The names in an output directory: whoever writes, reads or deletes there goes by them.

Names that begin with an underscore are passed over by the dataset readers of pyarrow, Spark and
DuckDB.
"""

from __future__ import annotations

import re

from transforms import storage

ERRORS_DIRECTORY = "_errors"
SNAPSHOT_FILE = "_snapshot.json"
RUN_FILE = "_run.json"
SUCCESS_FILE = "_SUCCESS"
LEASE_FILE = "_lease.json"
PLAN_DIRECTORY = "_plan"
JOURNAL_FILE = "_publish.json"
STAGING_DIRECTORY = "_staging"
COPIES_DIRECTORY = "_copies"
PREVIOUS_DIRECTORY = "_previous"

_OURS = frozenset(
    {
        RUN_FILE,
        SUCCESS_FILE,
        LEASE_FILE,
        PLAN_DIRECTORY,
        JOURNAL_FILE,
        STAGING_DIRECTORY,
        COPIES_DIRECTORY,
        PREVIOUS_DIRECTORY,
        SNAPSHOT_FILE,
        ERRORS_DIRECTORY,
    }
)


def part_name(shard: str) -> str:
    """File name of a shard's part."""
    return f"part-{shard}.parquet"


def part_path(output: str, shard: str) -> str:
    """Where a shard's part lies in the output directory."""
    return storage.join(output, part_name(shard))


def is_part_name(name: str) -> bool:
    """Whether a file name is that of a part."""
    return re.fullmatch(r"part-[0-9a-f]{16}\.parquet", name) is not None


def is_ours(name: str) -> bool:
    """Whether a name directly in the directory is one that this program gives."""
    return name in _OURS or is_part_name(name) or is_temporary(name)


def is_temporary(name: str) -> bool:
    """Whether a name is that of a file which was not committed."""
    return name.startswith(storage.TEMPORARY_PREFIX)
