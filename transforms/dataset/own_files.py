"""Files of an output, opened as what they are: nothing in the directory leads out of it.

Who may write into the directory may put a link, a pipe or a file without end in the place of any
file. Links among our own names are refused before anything is changed, and none is followed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from transforms import storage
from transforms.dataset.layout import (
    COPIES_DIRECTORY,
    ERRORS_DIRECTORY,
    OWN_DIRECTORIES,
    OWN_FILES,
    PLAN_DIRECTORY,
    PREVIOUS_DIRECTORY,
    STAGING_DIRECTORY,
    is_errors_name,
    is_part_name,
    is_planned_name,
    is_started_name,
    own_directories,
    replaced_when,
)
from transforms.dataset.stored_json import MOST_BYTES, parse_object
from transforms.errors import UserError


@contextlib.contextmanager
def parquet_input(path: str) -> Iterator[pa.NativeFile]:
    """A Parquet file of an output for reading, closed at the end.

    Raises:
      UnusableFileError: it is a link or no regular file, or lies behind a link.
      OSError: it cannot be read.
    """
    with storage.arrow_input(path, own_directories(path)) as file:
        yield file


def file_checksum(path: str) -> str:
    """The checksum of a file of an output.

    Raises:
      OSError: as `parquet_input`.
    """
    return storage.checksum(path, own_directories(path))


def read_object(path: str) -> dict[str, Any] | None:
    """The object that a JSON file of an output holds; None if there is no such file.

    Raises:
      ValueError: it is damaged or no file; the message names it.
      OSError: it cannot be read.
    """
    if not storage.exists(path):
        return None
    try:
        if storage.is_local(path):
            return parse_object(storage.read_unlinked(path, MOST_BYTES, own_directories(path)))
        with storage.open_input(path) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        return parse_object(content)
    except storage.UnusableFileError as error:
        raise ValueError(str(error.strerror)) from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def refuse_links(directory: str) -> None:
    """Refuses an output in which something else lies under one of our names.

    Raises:
      UserError: the message names it; nothing was opened.
    """
    if storage.is_local(directory):
        _check_parts(directory)


def _check_parts(directory: str) -> None:
    """The output, or what is kept in the same form below it."""
    for entry in _entries(directory):
        if entry.name in OWN_DIRECTORIES:
            _refuse_unless(entry, entry.is_dir(follow_symlinks=False), "directory")
            _WITHIN[entry.name](entry.path)
        elif entry.name in OWN_FILES or is_part_name(entry.name):
            _refuse_unless(entry, entry.is_file(follow_symlinks=False), "regular file")


def _check_errors(directory: str) -> None:
    for entry in _entries(directory):
        if is_errors_name(entry.name):
            _refuse_unless(entry, entry.is_file(follow_symlinks=False), "regular file")


def _check_plan(directory: str) -> None:
    for entry in _entries(directory):
        if is_planned_name(entry.name) or is_started_name(entry.name):
            _refuse_unless(entry, entry.is_file(follow_symlinks=False), "regular file")


def _check_previous(directory: str) -> None:
    for entry in _entries(directory):
        if replaced_when(entry.name):
            _refuse_unless(entry, entry.is_dir(follow_symlinks=False), "directory")
            _check_parts(entry.path)


_WITHIN: dict[str, Callable[[str], None]] = {
    ERRORS_DIRECTORY: _check_errors,
    PLAN_DIRECTORY: _check_plan,
    PREVIOUS_DIRECTORY: _check_previous,
    STAGING_DIRECTORY: _check_parts,
    COPIES_DIRECTORY: _check_parts,
}


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _refuse_unless(entry: os.DirEntry[str], is_so: bool, wanted: str) -> None:
    if is_so or not os.path.lexists(entry.path):  # it may have gone meanwhile
        return
    what = "a link" if entry.is_symlink() else f"no {wanted}"
    raise UserError(
        f"is {what}, and only a {wanted} may have that name in an output; nothing was done; put "
        f"the {wanted} back, or delete it if nobody needs it",
        subject=entry.path,
    )
