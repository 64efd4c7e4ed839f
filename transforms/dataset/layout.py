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

OWN_FILES = frozenset({RUN_FILE, SUCCESS_FILE, LEASE_FILE, JOURNAL_FILE, SNAPSHOT_FILE})
OWN_DIRECTORIES = frozenset(
    {PLAN_DIRECTORY, STAGING_DIRECTORY, COPIES_DIRECTORY, PREVIOUS_DIRECTORY, ERRORS_DIRECTORY}
)

# Whatever a file says of others is held against these: nothing else is opened, moved or deleted.
_PART = r"part-[0-9a-f]{16}\.parquet"
_ERRORS = r"[0-9a-f]{16}-[0-9a-f]{8}\.parquet"
_REPLACED = r"([0-9]{1,18})-([0-9]{1,12})"
_OF_DATASET = rf"(?:{_PART}|{ERRORS_DIRECTORY}/{_ERRORS})"
_PLANNED = r"[0-9a-f]{12}-[0-9]{5,}\.parquet"
_STARTED = r"[0-9a-f]{12}\.json"


def part_name(shard: str) -> str:
    """File name of a shard's part."""
    return f"part-{shard}.parquet"


def part_path(output: str, shard: str) -> str:
    """Where a shard's part lies in the output directory."""
    return storage.join(output, part_name(shard))


def is_part_name(name: str) -> bool:
    """Whether a file name is that of a part."""
    return re.fullmatch(_PART, name) is not None


def is_errors_name(name: str) -> bool:
    """Whether a name in `_errors/` is that of a file of error rows."""
    return re.fullmatch(_ERRORS, name) is not None


def is_of_dataset(path: str) -> bool:
    """Whether a path below the directory is that of a part or of its error rows.

    >>> is_of_dataset("_errors/0123456789abcdef-01234567.parquet"), is_of_dataset("../a.parquet")
    (True, False)
    """
    return re.fullmatch(_OF_DATASET, path) is not None


def is_waiting(path: str) -> bool:
    """Whether a path below the directory is that of such a file before it is published.

    >>> is_waiting("_staging/part-0123456789abcdef.parquet")
    True
    """
    directory, _, name = path.partition("/")
    return directory in (STAGING_DIRECTORY, COPIES_DIRECTORY) and is_of_dataset(name)


def is_planned_name(name: str) -> bool:
    """Whether a name in `_plan/` is that of a file of planned shards."""
    return re.fullmatch(_PLANNED, name) is not None


def is_started_name(name: str) -> bool:
    """Whether a name in `_plan/` is that of what a run says when it begins."""
    return re.fullmatch(_STARTED, name) is not None


def replaced_when(name: str) -> tuple[int, int] | None:
    """Generation and time of a name in `_previous/`; None if it is not one of ours.

    >>> replaced_when("3-1764180000"), replaced_when("notes")
    ((3, 1764180000), None)
    """
    match = re.fullmatch(_REPLACED, name, re.ASCII)
    return (int(match[1]), int(match[2])) if match else None


def is_replaced_in(path: str) -> bool:
    """Whether a path below the directory is one to which what is replaced moves."""
    directory, _, name = path.partition("/")
    return directory == PREVIOUS_DIRECTORY and replaced_when(name) is not None


def own_directories(path: str) -> int:
    """How many of the directories that a file lies in have names of ours, the nearest first.

    >>> own_directories("out/part-0.parquet"), own_directories("out/_staging/_errors/0.parquet")
    (0, 2)
    """
    names, count = path.split("/")[:-1], 0
    while names and _is_own_directory(*names[-2:]):
        names.pop()
        count += 1
    return count


def _is_own_directory(*names: str) -> bool:
    kept = names[0] == PREVIOUS_DIRECTORY and replaced_when(names[-1]) is not None
    return kept or names[-1] in OWN_DIRECTORIES


def is_ours(name: str) -> bool:
    """Whether a name directly in the directory is one that this program gives."""
    return name in OWN_FILES | OWN_DIRECTORIES or is_part_name(name) or is_temporary(name)


def is_temporary(name: str) -> bool:
    """Whether a name is that of a file which was not committed."""
    return name.startswith(storage.TEMPORARY_PREFIX)
