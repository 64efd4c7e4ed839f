"""What an output directory holds: parts, error rows, `_run.json`, and whose it is.

The parts are the only record of what is done. `_run.json` and `_SUCCESS` are written last, for
people and schedulers; nothing here decides by them.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import parts, storage
from transforms.errors import UserError, one_line
from transforms.parts import Part

RUN_FILE = "_run.json"
SUCCESS_FILE = "_SUCCESS"
PLAN_DIRECTORY = "_plan"

_READ_THREADS = 16

_SECRET = re.compile(r"secret|token|password|access_key|key_id|connection_string")

T = TypeVar("T")

_OURS = frozenset({RUN_FILE, SUCCESS_FILE, PLAN_DIRECTORY, parts.ERRORS_DIRECTORY})


class DuplicateIdsError(RuntimeError):
    """An id is in the output twice. Must never happen."""


@dataclasses.dataclass
class Output:
    """An output directory and the parts seen in it so far.

    Attributes:
      directory: local path or URI.
      parts: committed parts by file name; `refresh` adds new ones, reading each footer once.
    """

    directory: str
    parts: dict[str, Part] = dataclasses.field(default_factory=dict)

    def refresh(self) -> Output:
        """Sees parts that were committed since; returns itself."""
        names = [
            name
            for name in storage.list_names(self.directory)
            if parts.is_part_name(name) and name not in self.parts
        ]
        paths = [self.path(name) for name in names]
        self.parts.update(zip(names, _read_all(parts.read_part, paths), strict=True))
        return self

    def path(self, *names: str) -> str:
        """A path below the directory."""
        return storage.join(self.directory, *names)

    @property
    def rows(self) -> int:
        """Rows in all parts."""
        return sum(part.rows for part in self.parts.values())

    @property
    def errors(self) -> int:
        """Error rows of all parts."""
        return sum(part.errors for part in self.parts.values())

    def committed_ids(self) -> dict[str, str]:
        """Version by id, of all rows and error rows that are committed.

        Raises:
          UserError: a file of error rows that a part names is missing or damaged.
        """
        versions: dict[str, str] = {}
        paths = [self.path(name) for name in self.parts]
        for table in _read_all(_read_ids, [*paths, *self.error_paths()]):
            versions.update(zip(table["id"].to_pylist(), table["version"].to_pylist(), strict=True))
        return versions

    def error_paths(self) -> list[str]:
        """The files of error rows that a committed part names."""
        names = [part.errors_file for part in self.parts.values() if part.errors_file]
        return [self.path(parts.ERRORS_DIRECTORY, name) for name in sorted(names)]

    def error_types(self) -> collections.Counter[str]:
        """How many error rows there are of each type."""
        counter: collections.Counter[str] = collections.Counter()
        for path in self.error_paths():
            with storage.arrow_input(path) as file:
                counter.update(pq.ParquetFile(file).read(["error_type"])["error_type"].to_pylist())
        return counter

    def seconds(self, shards: set[str]) -> dict[str, float]:
        """Time spent by stage on the given shards."""
        total: collections.Counter[str] = collections.Counter()
        for part in self.parts.values():
            if part.shard in shards:
                total.update(part.seconds)
        return dict(total)


def open_output(directory: str) -> Output:
    """Opens an output directory, new or of an earlier run.

    Raises:
      UserError: it is a file, or holds files that are not of this program.
    """
    if storage.is_local(directory) and os.path.exists(directory) and not os.path.isdir(directory):
        raise UserError(f"--output {directory}: is a file; give a directory")
    try:
        names = storage.list_names(directory)
    except (OSError, ValueError) as error:
        raise UserError(f"--output {directory}: cannot be listed: {one_line(error)}") from error
    strangers = [name for name in names if not _is_ours(name) and not _is_desktop_clutter(name)]
    if strangers:
        raise UserError(
            f"--output {directory}: holds files that are not of this program, such as "
            f"{strangers[0]}; give a new or empty directory"
        )
    return Output(directory)


def overwrite(output: Output) -> None:
    """Deletes an earlier output.

    First the signs that it is finished, then the parts, last what parts refer to: killed at any
    moment it leaves a directory that can be continued.
    """
    names = [name for name in storage.list_names(output.directory) if _is_ours(name)]
    signs = [name for name in names if name in (SUCCESS_FILE, RUN_FILE)]
    committed = [name for name in names if parts.is_part_name(name)]
    others = [name for name in names if name not in signs and name not in committed]
    storage.delete([output.path(name) for name in [*signs, *committed, *others]])
    output.parts.clear()


def check_parts(output: Output, fingerprint: dict[str, str]) -> None:
    """Reads the footers of the parts: an output directory belongs to one fingerprint.

    Raises:
      UserError: a part cannot be read, or was made with other settings; the message says which.
    """
    try:
        output.refresh()
    except (ValueError, OSError) as error:
        raise UserError(
            f"--output {output.directory}: a part cannot be read: {one_line(error)}; delete that "
            "file to compute its images again, or give --overwrite to start anew"
        ) from error
    for part in output.parts.values():
        differing = [
            f"{name} was {part.fingerprint.get(name)}, is {fingerprint.get(name)}"
            for name in sorted(part.fingerprint.keys() | fingerprint.keys())
            if part.fingerprint.get(name) != fingerprint.get(name)
        ]
        if differing:
            raise UserError(
                f"--output {output.directory}: made with other settings: {'; '.join(differing)}. "
                "Give another --output, or --overwrite to start anew"
            )


def start(output: Output, run_id: str) -> None:
    """Makes the directory, and takes back what says that the output is finished.

    Raises:
      UserError: the directory cannot be written.
    """
    try:
        storage.write_text(output.path(PLAN_DIRECTORY, f"{run_id}-started"), "")
    except (OSError, ValueError) as error:
        raise UserError(f"--output {output.directory}: not writable: {one_line(error)}") from error
    storage.delete([output.path(SUCCESS_FILE), output.path(RUN_FILE)])


def check_ids_unique(output: Output) -> None:
    """Each id once, in rows and error rows of the whole output.

    Raises:
      DuplicateIdsError: two runs must have written at the same time.
    """
    accounted = output.rows + output.errors
    different = len(output.committed_ids())
    if different != accounted:
        raise DuplicateIdsError(
            f"{output.directory} holds {accounted} rows and error rows, but {different} different "
            "ids: two runs must have written at the same time; --overwrite starts anew"
        )


def finish(output: Output, report: dict[str, Any], succeeded: bool, started: float) -> None:
    """Clears what was temporary, then writes `_run.json` and, if all is well, `_SUCCESS`.

    Args:
      output: with all its parts.
      report: what goes into `_run.json`.
      succeeded: whether there will be a `_SUCCESS`.
      started: when this run began, in seconds since the epoch: what is younger may be another's.
    """
    run_id = report["run_id"]
    named = {part.errors_file for part in output.parts.values()}
    errors = output.path(parts.ERRORS_DIRECTORY)
    leftovers = [
        output.path(name) for name in storage.list_names(output.directory) if _is_leftover(name)
    ]
    leftovers += [
        storage.join(errors, name) for name in storage.list_names(errors) if name not in named
    ]
    plan = output.path(PLAN_DIRECTORY)
    plans = storage.list_names(plan)
    leftovers += [storage.join(plan, name) for name in plans if not name.startswith(run_id)]
    storage.delete([path for path in leftovers if storage.modified(path) < started])
    storage.delete([storage.join(plan, name) for name in plans if name.startswith(run_id)])
    storage.remove_if_empty(plan)
    storage.write_text(output.path(RUN_FILE), json.dumps(report, indent=2, sort_keys=False) + "\n")
    if succeeded:
        storage.write_text(output.path(SUCCESS_FILE), "")


def command_line(argv: list[str]) -> str:
    """The command as it could be typed again, without the values of secret options."""
    words = ["python", "-m", "pipeline.run"]
    for before, word in zip(["", *argv], argv, strict=False):
        flag, equals, _ = word.partition("=")
        if equals and _SECRET.search(flag):
            word = f"{flag}=***"
        elif "=" not in before and before.startswith("--") and _SECRET.search(before):
            word = "***"
        words.append(word)
    return shlex.join(words)


def _read_all(read: Callable[[str], T], paths: list[str]) -> Iterator[T]:
    """Reads several files at a time: on an object store each takes a while to begin."""
    with concurrent.futures.ThreadPoolExecutor(_READ_THREADS) as pool:
        yield from pool.map(read, paths)


def _read_ids(path: str) -> pa.Table:
    try:
        with storage.arrow_input(path) as file:
            return pq.ParquetFile(file).read(["id", "version"])
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{path}: cannot be read: {one_line(error)}; delete the part of that shard to compute "
            "its images again, or give --overwrite to start anew"
        ) from error


def _is_ours(name: str) -> bool:
    return name in _OURS or parts.is_part_name(name) or _is_leftover(name)


def _is_desktop_clutter(name: str) -> bool:
    """What file managers and network filesystems leave behind."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini")


def _is_leftover(name: str) -> bool:
    return name.startswith(storage.TEMPORARY_PREFIX)
