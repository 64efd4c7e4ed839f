"""Reads what lies in an output directory while runs may be at work there.

Works from any machine that can read the directory. Nothing is written, and what a live run renames
or deletes meanwhile is left out.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.output import lease
from pipeline.output.directory import Output
from pipeline.output.journal import read_journal
from pipeline.output.lease import Lease
from transforms import storage
from transforms.dataset.layout import (
    ERRORS_DIRECTORY,
    JOURNAL_FILE,
    PLAN_DIRECTORY,
    RUN_FILE,
    SNAPSHOT_FILE,
    STAGING_DIRECTORY,
    is_part_name,
    is_started_name,
)
from transforms.dataset.own_files import parquet_input, read_object
from transforms.dataset.part import Part, read_part
from transforms.dataset.snapshot import read_snapshot
from transforms.dataset.stored_json import (
    Kind,
    check_kinds,
    is_count,
    is_flag,
    is_number,
    is_text,
    list_of,
    object_of,
)
from transforms.errors import UserError, one_line
from transforms.storage import StoredFile
from transforms.storage.retries import retrying

PLANS, STAGED = f"{PLAN_DIRECTORY}/", f"{STAGING_DIRECTORY}/"

_RUN_TOLD: dict[str, Kind] = {
    "run_id": is_text,
    "command": is_text,
    "started": is_text,
    "ended": is_text,
    "succeeded": is_flag,
}
_COUNTED = ("matched", "done_before", "rows_of_this_run", "errors_of_this_run")
_OF_A_REPORT: dict[str, Kind] = {
    "counts": lambda found: object_of(is_count)(found) and found.keys() >= set(_COUNTED),
    "seconds": lambda found: object_of(is_number)(found) and "pipeline" in found,
}
_OF_A_PLAN: dict[str, Kind] = {
    "run_id": is_text,
    "arguments": list_of(is_text),
    "started": is_text,
    "matched": is_count,
    "todo": is_count,
    "shards": list_of(is_text),
}

_LOOKS = 5
_READ_THREADS = 16

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class UnfinishedRun:
    """A run that is not over, as `_plan/<run_id>.json` has it; `written`: since the epoch."""

    run_id: str
    arguments: list[str]
    started: str
    matched: int
    todo: int
    shards: frozenset[str]
    written: float


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, at work or over. Times are ISO 8601 in UTC.

    Attributes:
      run_id, command, started, ended: `ended` is None for one that is not over.
      succeeded: of one that is over, whether errors stayed within `--max_error_rate`.
      total: images that its inputs hold.
      done: of these, the rows and error rows by now; `done_before`: when it began.
      images_per_second: images that it computed by the seconds from the start of computing to its
        last commit, or that its pipeline took.
      run_errors_by_type: its error rows so far; None for one that is over.
    """

    run_id: str
    command: str
    started: str
    ended: str | None
    succeeded: bool | None
    total: int
    done: int
    done_before: int
    images_per_second: float | None
    run_errors_by_type: dict[str, int] | None


@dataclasses.dataclass(frozen=True)
class Observation:
    """What lies in an output at one moment; files, parts and error types by path below it."""

    output: str
    files: dict[str, StoredFile]
    parts: dict[str, Part]
    error_types: dict[str, collections.Counter[str]]
    plans: list[UnfinishedRun]
    over: Run | None
    lease: Lease | None
    unreadable: list[str]


class Observer:
    """Looks at an output again and again; reads no file twice that did not change."""

    def __init__(self, output: Output):
        self._output = output
        self._known: dict[tuple[str, StoredFile], Any] = {}

    def look(self) -> Observation:
        """What lies there now.

        Raises:
          UserError: there is no output any more.
        """
        for _ in range(_LOOKS):
            before = self._lease([])
            found = self._look()
            if (before and before.run_id) == (found.lease and found.lease.run_id):
                break  # else a run began or ended meanwhile
        return found

    def _lease(self, unreadable: list[str]) -> Lease | None:
        try:
            return lease.read_lease(self._output)
        except UserError as error:
            unreadable.append(one_line(error))
            return None

    def _look(self) -> Observation:
        directory = self._output.directory
        files = retrying(lambda: storage.list_files(directory))
        if not files:
            raise UserError(f"{directory}: holds no output of this program")
        unreadable: list[str] = []
        before, self._known = self._known, {}

        def read_one(path: str, read: Callable[[str], T]) -> T | None:
            full, key = self._output.path(path), (path, files[path])
            try:
                value = before[key] if key in before else retrying(lambda: read(full))
            except FileNotFoundError:
                return None
            except (OSError, ValueError) as error:
                if storage.exists(full):  # object stores tell in other ways that it is gone
                    text = one_line(error)
                    unreadable.append(text if full in text else f"{full}: {text}")
                return None
            self._known[key] = value
            return value

        def read_all(paths: Iterable[str], read: Callable[[str], T]) -> dict[str, T]:
            there = [path for path in paths if path in files]
            with concurrent.futures.ThreadPoolExecutor(_READ_THREADS) as pool:
                values = pool.map(lambda path: read_one(path, read), there)
                found = dict(zip(there, values, strict=True))
            return {path: value for path, value in found.items() if value is not None}

        plans = [path for path in files if path.startswith(PLANS)]
        plans = [path for path in plans if is_started_name(path.removeprefix(PLANS))]
        names = [path for path in files if is_part_name(path.removeprefix(STAGED))]
        read_all([SNAPSHOT_FILE], lambda _: read_snapshot(directory))  # whether they are whole
        read_all([JOURNAL_FILE], lambda _: read_journal(self._output))
        found = read_all(names, read_part)
        return Observation(
            output=directory,
            files=files,
            parts=found,
            error_types=read_all(map(errors_path, found, found.values()), _read_error_types),
            plans=list(read_all(plans, _read_plan).values()),
            over=read_all([RUN_FILE], _read_report).get(RUN_FILE),
            lease=self._lease(unreadable),
            unreadable=sorted(unreadable),
        )


def images_per_second(images: int, seconds: float) -> float | None:
    """A rate, or None where there is none yet."""
    return round(images / seconds, 2) if images and seconds > 0 else None


def errors_path(path: str, part: Part) -> str:
    """Where the error rows of the part at `path` lie; a path that is not there if it has none."""
    directory = path[: path.rfind("/") + 1]
    return f"{directory}{ERRORS_DIRECTORY}/{part.errors_file or ''}"


def _read_error_types(path: str) -> collections.Counter[str]:
    with parquet_input(path) as file:
        table = pq.ParquetFile(file).read(["error_type"])
    if table.schema.names != ["error_type"] or table.schema.field(0).type != pa.string():
        raise ValueError(f"{path} has not the columns of error rows")
    return collections.Counter(table["error_type"].to_pylist())


def _read_plan(path: str) -> UnfinishedRun:
    told = _read_checked(path, _OF_A_PLAN)
    fields = {name: told[name] for name in _OF_A_PLAN}
    return UnfinishedRun(
        **fields | {"shards": frozenset(told["shards"])}, written=storage.modified(path)
    )


def _read_report(path: str) -> Run:
    told = _read_checked(path, _OF_A_REPORT | _RUN_TOLD)
    counts = told["counts"]
    done = counts["rows_of_this_run"] + counts["errors_of_this_run"]
    return Run(
        **{name: told[name] for name in _RUN_TOLD},
        total=counts["matched"],
        done=counts["done_before"] + done,
        done_before=counts["done_before"],
        images_per_second=images_per_second(done, told["seconds"]["pipeline"]),
        run_errors_by_type=None,
    )


def _read_checked(path: str, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    found = read_object(path)
    if found is None:
        raise FileNotFoundError(path)
    try:
        check_kinds(found, kinds)
    except ValueError as error:
        raise ValueError(
            f"{path} was not written by this program, or by another version of it: {error}"
        ) from error
    return found
