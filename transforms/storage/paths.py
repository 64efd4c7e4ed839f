"""Paths and URIs: what their text says, and how a local file is opened that others may have made.

Of such a one no link is followed, and it is read only if it is a regular file of a size that it may
have: else a link, a pipe or a file without end decides what is read, or for how long.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from typing import BinaryIO


def is_local(path: str) -> bool:
    """True for a path without a scheme such as `gs://`."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is None


def join(directory: str, *names: str) -> str:
    """The path of `names` below `directory`, local or not."""
    return "/".join([directory.rstrip("/"), *names])


def absolute(path: str) -> str:
    """A local path made absolute; a URI as it is."""
    return os.path.abspath(os.path.expanduser(path)) if is_local(path) else path


class UnusableFileError(OSError):
    """What has the name of a file is a link, is no regular file, or is larger than it may be.

    Args:
      number: of the error, as the system has it.
      problem: what is wrong.
      path: with what; the message names it.
    """

    def __init__(self, number: int, problem: str, path: str):
        super().__init__(number, f"{path}: {problem}", path)
        self.problem, self._path = problem, path

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.problem, self._path)


def open_unlinked(path: str, directories: int = 0) -> BinaryIO:
    """Opens a local regular file for reading.

    Args:
      path: of the file, which may not be a link.
      directories: so many of the directories that it lies in may not be links either, the nearest
        first.

    Raises:
      UnusableFileError: one of them is, or it is no regular file.
      OSError: it is not there or cannot be opened.
    """
    with _parent(path, directories) as (parent, name):
        # Without a writer, a pipe would be waited for.
        handle = _open(path, name, os.O_RDONLY | os.O_NONBLOCK, parent)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UnusableFileError(errno.EINVAL, "is no regular file", path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_unlinked(path: str, most: int, directories: int = 0) -> bytes:
    """The content of a local regular file.

    Args:
      path, directories: as in `open_unlinked`.
      most: bytes that it may have.

    Raises:
      UnusableFileError: it is a link, no regular file, or larger.
      OSError: it is not there or cannot be read.
    """
    with open_unlinked(path, directories) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(min(size, most) + 1) if size <= most else b""
        if max(size, len(content)) > most:
            raise too_large(path, most)
        return content


def too_large(path: str, most: int) -> UnusableFileError:
    """About a file of more than `most` bytes."""
    return UnusableFileError(errno.EFBIG, f"has more than {most:,} bytes", path)


@contextlib.contextmanager
def _parent(path: str, directories: int) -> Iterator[tuple[int | None, str]]:
    """The directory of a file, opened without following the last links, and the file's name there.

    None is the directory that the process works in.
    """
    if not directories:
        yield None, path
        return
    *before, name = os.path.abspath(path).rsplit("/", directories + 1)
    handle = os.open(before[0] or "/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for directory in before[1:]:
            inner = _open(path, directory, os.O_RDONLY | os.O_DIRECTORY, handle)
            os.close(handle)
            handle = inner
        yield handle, name
    finally:
        os.close(handle)


def _open(path: str, name: str, flags: int, parent: int | None) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        is_directory = bool(flags & os.O_DIRECTORY)
        # Of a link that is opened as a directory, Linux tells that it is none.
        if error.errno not in (errno.ELOOP, errno.ENOTDIR if is_directory else errno.ENXIO):
            raise
        what = "directory" if is_directory else "regular file"
        raise UnusableFileError(
            error.errno, f"{os.path.basename(name)} is a link or no {what}", path
        ) from error
