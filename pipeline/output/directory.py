"""An output directory: what lies in it, and what its parts say of themselves.

The parts are the only record of what is done; everything else here is for people, schedulers and
the run that works on it.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage
from transforms.dataset.layout import ERRORS_DIRECTORY, is_ours, is_part_name
from transforms.dataset.own_files import parquet_input, refuse_links
from transforms.dataset.part import Part, read_part
from transforms.errors import ERROR_SCHEMA, UserError, one_line

# Files that are read at a time: on an object store each takes a while to begin, and each thread
# takes some megabytes.
_LOCAL_READS, _REMOTE_READS = 2, 16

T = TypeVar("T")


class NoOutputError(UserError):
    """There is nothing of this program in a directory, or no directory, yet."""


@dataclasses.dataclass(frozen=True)
class PartIds:
    """The ids of one part.

    Attributes:
      name: of the part.
      rows: columns `id`, `uri` and `version` of its rows.
      errors: the same of its error rows, and `stage`, `error_type` and `transient`.
    """

    name: str
    rows: pa.Table
    errors: pa.Table

    def ids(self) -> list[str]:
        """Of rows and error rows."""
        return [*self.rows["id"].to_pylist(), *self.errors["id"].to_pylist()]


@dataclasses.dataclass(frozen=True)
class ErrorExample:
    """How many error rows there are of a type, and the id and message of one."""

    count: int
    id: str
    message: str


@dataclasses.dataclass
class Output:
    """A directory of parts and the parts seen in it so far.

    Attributes:
      directory: local path or URI.
      parts: committed parts by file name; `refresh` adds new ones, reading each footer once.
    """

    directory: str
    parts: dict[str, Part] = dataclasses.field(default_factory=dict)

    def refresh(self, without: Collection[str] = ()) -> Output:
        """Sees which parts came and went since; returns itself.

        Args:
          without: names of parts that do not count any more.
        """
        present = [name for name in self.all_names() if name not in without]
        new = [name for name in present if name not in self.parts]
        read = dict(zip(new, self._read_all(lambda n: read_part(self.path(n)), new), strict=True))
        known = self.parts | read
        self.parts = {name: known[name] for name in present}
        return self

    def all_names(self) -> list[str]:
        """Names of the parts that are there, readable or not."""
        return [name for name in storage.list_names(self.directory) if is_part_name(name)]

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

    @property
    def files(self) -> list[str]:
        """The parts and the error files that they name, as paths below the directory."""
        return [*self.parts, *(f"{ERRORS_DIRECTORY}/{n}" for n in self._error_names())]

    def ids(self) -> Iterator[PartIds]:
        """Ids, URIs and versions, part by part.

        Raises:
          UserError: a part, or a file of error rows that a part names, is missing or damaged.
        """

        def read(name: str) -> PartIds:
            errors_file = self.parts[name].errors_file
            errors = ERROR_SCHEMA.empty_table().select(_ERROR_COLUMNS)
            if errors_file:
                errors = _read_columns(self.path(ERRORS_DIRECTORY, errors_file), _ERROR_COLUMNS)
            return PartIds(name, _read_columns(self.path(name), _ID_COLUMNS), errors)

        yield from self._read_all(read, self.parts)

    def error_rows(self, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """Columns of the error rows, with the name of their part, part by part.

        Raises:
          UserError: a file of error rows is missing or damaged.
        """
        names = [name for name, part in self.parts.items() if part.errors_file]

        def read(name: str) -> pa.Table:
            file = self.parts[name].errors_file or ""
            return _read_columns(self.path(ERRORS_DIRECTORY, file), columns)

        yield from zip(names, self._read_all(read, names), strict=True)

    def error_examples(self) -> dict[str, ErrorExample]:
        """Of each type of error, the most frequent first: how many there are, and the first."""
        found: dict[str, ErrorExample] = {}
        columns = ["error_type", "id", "message"]
        for name in self._error_names():
            with parquet_input(self.path(ERRORS_DIRECTORY, name)) as file:
                table = pq.ParquetFile(file).read(columns)
            for kind, image_id, message in zip(
                *(table[c].to_pylist() for c in columns), strict=True
            ):
                before = found.get(kind, ErrorExample(0, image_id, message))
                found[kind] = dataclasses.replace(before, count=before.count + 1)
        return dict(sorted(found.items(), key=lambda item: -item[1].count))

    def _read_all(self, read: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
        """Reads several files at a time, in order."""
        names = iter(names)
        threads = _LOCAL_READS if storage.is_local(self.directory) else _REMOTE_READS
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            reading = collections.deque(
                pool.submit(read, n) for n in itertools.islice(names, threads)
            )
            while reading:
                yield reading.popleft().result()
                reading.extend(pool.submit(read, name) for name in itertools.islice(names, 1))

    def _error_names(self) -> list[str]:
        return sorted(part.errors_file for part in self.parts.values() if part.errors_file)


def open_output(directory: str) -> Output:
    """Opens an output directory for a run, new or of an earlier one.

    Raises:
      UserError: it is a file, cannot be listed, or holds files that are not of this program.
    """
    _names_in(directory, f"--output {directory}", "a directory", "a new or empty directory")
    return Output(directory)


def open_finished(directory: str) -> Output:
    """Opens the output directory that a command about it is given.

    Raises:
      NoOutputError: there is nothing of this program in it, or no such directory.
      UserError: it is a file, cannot be listed, or holds files that are not of this program.
    """
    path = storage.absolute(directory)
    wanted = "the output directory of a run"
    if not any(map(is_ours, _names_in(path, directory, wanted, wanted))):
        raise NoOutputError(f"{directory}: holds no output of this program")
    return Output(path)


def _names_in(path: str, told: str, for_a_file: str, for_strangers: str) -> list[str]:
    """What lies in an output directory; [] if there is none.

    Args:
      path: the directory.
      told: what a message calls it.
      for_a_file, for_strangers: what to give instead.
    """
    if storage.is_local(path) and os.path.exists(path) and not os.path.isdir(path):
        raise UserError(f"{told}: is a file; give {for_a_file}")
    try:
        names = storage.list_names(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{told}: cannot be listed: {one_line(error)}") from error
    strangers = [name for name in names if not is_ours(name) and not _is_desktop_clutter(name)]
    if strangers:
        raise UserError(
            f"{told}: holds files that are not of this program, such as {strangers[0]}; give "
            f"{for_strangers}"
        )
    refuse_links(path)
    return names


_ID_COLUMNS = ["id", "uri", "version"]
_ERROR_COLUMNS = [*_ID_COLUMNS, "stage", "error_type", "transient"]


def _read_columns(path: str, columns: Sequence[str]) -> pa.Table:
    try:
        with parquet_input(path) as file:
            table = pq.ParquetFile(file).read(list(columns))
        return table.select(columns).cast(pa.schema([ERROR_SCHEMA.field(c) for c in columns]))
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read: {one_line(error)}; delete the part of that shard to compute "
            "its images again, or give --overwrite to start anew"
        ) from error


def _is_desktop_clutter(name: str) -> bool:
    """What file managers and network filesystems leave behind."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini")
