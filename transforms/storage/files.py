"""Reading and atomically committing files on any of Beam's filesystems.

Local paths go straight to the operating system, so that a commit is one `rename` and a broken
symbolic link is still seen; everything with a scheme goes through `FileSystems`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from transforms.storage import faults
from transforms.storage.object_stores import errors_as_oserrors, s3_object
from transforms.storage.retries import retrying

TEMPORARY_PREFIX = "_tmp-"


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """A file as a listing shows it.

    Attributes:
      size: in bytes.
      modified: when it was last written, in seconds since the epoch; 0 where that is not known.
    """

    size: int
    modified: float


def is_local(path: str) -> bool:
    """True for a path without a scheme such as `gs://`."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is None


def join(directory: str, *names: str) -> str:
    """The path of `names` below `directory`, local or not."""
    return "/".join([directory.rstrip("/"), *names])


def absolute(path: str) -> str:
    """A local path made absolute; a URI as it is."""
    return os.path.abspath(os.path.expanduser(path)) if is_local(path) else path


def open_input(path: str) -> BinaryIO:
    """Opens a file for reading, bytes as they are stored.

    Raises:
      OSError: FileNotFoundError, PermissionError, … for local paths; BeamIOError is one, too.
    """
    if is_local(path):
        return open(path, "rb")
    with errors_as_oserrors(path):
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def version(status: os.stat_result) -> str:
    """What changes when a local file does: its size in bytes and modification time."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def exists(path: str) -> bool:
    """Whether there is a file (or a local directory) at `path`."""
    with errors_as_oserrors(path):
        return os.path.lexists(path) if is_local(path) else FileSystems.exists(path)


def modified(path: str) -> float:
    """When a file was last written, in seconds since the epoch; 0 if it is gone."""
    with contextlib.suppress(OSError), errors_as_oserrors(path):
        return os.path.getmtime(path) if is_local(path) else FileSystems.last_updated(path)
    return 0.0


def list_names(directory: str) -> list[str]:
    """Sorted names directly in a directory; [] if there is no such directory."""
    if is_local(directory):
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []
    prefix = directory.rstrip("/") + "/"
    [match] = FileSystems.match([glob.escape(prefix) + "**"])
    return sorted({meta.path[len(prefix) :].split("/")[0] for meta in match.metadata_list})


def list_files(directory: str) -> dict[str, StoredFile]:
    """All files below a directory, by path below it; {} if there is no such directory.

    What vanishes meanwhile is left out.
    """
    found: dict[str, StoredFile] = {}
    if not is_local(directory):
        prefix = directory.rstrip("/") + "/"
        [match] = FileSystems.match([glob.escape(prefix) + "**"])
        for meta in match.metadata_list:
            modified = meta.last_updated_in_seconds
            found[meta.path[len(prefix) :]] = StoredFile(meta.size_in_bytes, modified)
        return found
    for parent, _, names in os.walk(directory, onerror=_unless_gone):
        for name in names:
            path = os.path.join(parent, name)
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                file = StoredFile(status.st_size, status.st_mtime)
                found[os.path.relpath(path, directory)] = file
    return found


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def delete(paths: list[str]) -> None:
    """Deletes files, and directories with all that is in them; what is gone already is fine."""
    for path in paths:
        if not is_local(path):
            [below] = FileSystems.match([glob.escape(path.rstrip("/")) + "/**"])
            found = [meta.path for meta in below.metadata_list]
            found += [path] if FileSystems.exists(path) else []
            if found:
                FileSystems.delete(found)
        elif os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)


def move(moves: list[tuple[str, str]]) -> None:
    """Renames files within one filesystem; those that were moved already are fine."""
    for source, target in moves:
        if not is_local(source):
            if FileSystems.exists(source):
                FileSystems.rename([source], [target])
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.replace(source, target)
    for directory in sorted({os.path.dirname(target) for _, target in moves if is_local(target)}):
        _sync_directory(directory)


def checksum(path: str) -> str:
    """What changes when a byte of the file does: SHA-256, or what its filesystem keeps.

    Raises:
      OSError: the file is not there or cannot be read.
    """
    if not is_local(path):
        return str(FileSystems.checksum(path))
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def remove_if_empty(directory: str) -> None:
    """Removes a local directory that holds nothing; elsewhere there are no empty directories."""
    if is_local(directory):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


@contextlib.contextmanager
def arrow_input(path: str) -> Iterator[pa.NativeFile]:
    """An Arrow file for reading `path`, closed at the end."""
    if is_local(path):
        with pa.OSFile(path, "rb") as arrow_file:
            yield arrow_file
    else:
        with open_input(path) as file, pa.PythonFile(file, mode="r") as arrow_file:
            yield arrow_file


class PendingFile:
    """A file that appears under its final name in one step, or not at all.

    Local: a temporary name in the same directory, then fsync, rename and fsync of the directory.
    Elsewhere: a local temporary file, an upload under a temporary name, then a rename in the store:
    an upload that breaks off must not be finalised under the final name.

    Temporary names neither begin like a part nor end in .parquet: no reader's glob sees them.

    Attributes:
      local_path: where to write before `commit`.
    """

    def __init__(self, path: str):
        self._path = absolute(path)
        if is_local(path):
            directory, name = os.path.split(self._path)
            os.makedirs(directory, exist_ok=True)
            self.local_path = os.path.join(directory, _temporary_name(name))
        else:
            handle, self.local_path = tempfile.mkstemp(prefix=TEMPORARY_PREFIX)
            os.close(handle)

    def commit(self) -> None:
        """Makes the file appear under its final name, replacing what was there."""
        if not is_local(self._path):
            faults.reached("before_rename")
            retrying(self._upload)
            os.remove(self.local_path)
            return
        with open(self.local_path, "rb") as file:
            os.fsync(file.fileno())
        faults.reached("before_rename")
        os.replace(self.local_path, self._path)
        _sync_directory(os.path.dirname(self._path))

    def _upload(self) -> None:
        if self._path.startswith("s3://") and not os.path.getsize(self.local_path):
            client, where = s3_object(self._path)  # Beam cannot make an empty object there
            client.put_object(**where, Body=b"")
            return
        directory, name = self._path.rsplit("/", 1)
        temporary = join(directory, _temporary_name(name))
        try:
            with (
                open(self.local_path, "rb") as source,
                FileSystems.create(
                    temporary, compression_type=CompressionTypes.UNCOMPRESSED
                ) as target,
            ):
                shutil.copyfileobj(source, target, 2**20)
            try:
                FileSystems.rename([temporary], [self._path])
            except OSError:  # HDFS does not replace a file
                FileSystems.delete([self._path])
                FileSystems.rename([temporary], [self._path])
        except BaseException:
            with contextlib.suppress(OSError):
                delete([temporary])
            raise

    def discard(self) -> None:
        """Removes what was written; nothing appears."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.local_path)


def _sync_directory(directory: str) -> None:
    """Makes renames in a directory durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary_name(name: str) -> str:
    return f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-{name}.tmp"


def write_atomically(path: str, write: Callable[[str], None]) -> None:
    """Calls `write(temporary local path)`, then commits the result as `path`."""
    pending = PendingFile(path)
    try:
        write(pending.local_path)
        pending.commit()
    except BaseException:
        pending.discard()
        raise


def write_text(path: str, text: str) -> None:
    """Writes a small UTF-8 text file atomically."""

    def write(local_path: str) -> None:
        with open(local_path, "w", encoding="utf-8") as file:
            file.write(text)

    write_atomically(path, write)
