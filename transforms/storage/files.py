"""Reading and listing files, wherever they lie.

Local paths go straight to the operating system, so that a broken symbolic link is still seen;
`gs://` and `s3://` to their stores; everything else with a scheme goes through `FileSystems`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems

from transforms.storage.clients import asking, errors_as_oserrors
from transforms.storage.object_input import open_object
from transforms.storage.object_stores import ObjectStore, store_of
from transforms.storage.paths import is_local, open_unlinked


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """A file as a listing shows it.

    Attributes:
      size: in bytes.
      modified: when it was last written, in seconds since the epoch; 0 where that is not known.
      version: another one when it has changed; "" where that is not known.
    """

    size: int
    modified: float
    version: str = ""


def open_input(path: str) -> BinaryIO:
    """Opens a file for reading, bytes as they are stored.

    Raises:
      OSError: FileNotFoundError, PermissionError, … for local paths; BeamIOError is one, too.
    """
    if is_local(path):
        return open(path, "rb")
    store = store_of(path)
    if store:
        return open_object(store, path)
    with errors_as_oserrors(path):
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def opened_version(file: BinaryIO) -> str:
    """The version of what `open_input` has opened, whatever lies there by now; "" if not known."""
    told = getattr(getattr(file, "raw", None), "version", None)
    if told is not None:
        return told
    try:
        return version(os.fstat(file.fileno()))
    except (OSError, AttributeError):  # a filesystem of Beam's
        return ""


def read(path: str, most: int) -> tuple[bytes, str]:
    """The first `most` bytes of a file, and the version that it had then.

    The version is "" where it cannot be had in the same breath, as on HDFS.

    Raises:
      OSError: as `open_input`.
    """
    store = store_of(path)
    if store:
        with errors_as_oserrors(path):
            return store.read(path, most)
    with open_input(path) as file:
        if not is_local(path):
            return file.read(most), ""
        status = os.fstat(file.fileno())
        most = min(most, status.st_size + 1)  # Python makes room for as much as it is asked for
        return file.read(most), version(status)


def version(status: os.stat_result) -> str:
    """What changes when a local file does: its size in bytes and modification time."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def find(path: str) -> StoredFile | None:
    """The file at `path` as a listing would show it; None if there is none.

    Raises:
      OSError: that cannot be seen.
    """
    store = store_of(path)
    if store:
        found = asking(path, lambda: store.look(path))
        return StoredFile(found.size, found.modified, found.version) if found else None
    if is_local(path):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        return StoredFile(status.st_size, status.st_mtime, version(status))
    return next((file for _, file in match(glob.escape(path))), None)


def exists(path: str) -> bool:
    """Whether there is a file (or a local directory, or a broken link) at `path`."""
    if is_local(path):
        return os.path.lexists(path)
    if store_of(path):
        return find(path) is not None
    return FileSystems.exists(path)


def modified(path: str) -> float:
    """When a file was last written, in seconds since the epoch; 0 if it is gone."""
    with contextlib.suppress(OSError):
        found = find(path)
        return found.modified if found else 0.0
    return 0.0


def match(pattern: str) -> Iterator[tuple[str, StoredFile]]:
    """The files with a scheme that a glob matches, with their paths, as Beam has it.

    `*` stays within a directory, `?` is any character, `**` crosses directories.

    Raises:
      OSError, ValueError: they cannot be listed, or the scheme is not known.
    """
    store = store_of(pattern)
    with errors_as_oserrors(pattern):
        if store:
            pattern += "*" if pattern.endswith("/") else ""
            [fixed] = re.findall(r"^[^[*?]*", pattern)
            matches = re.compile(FileSystem.translate_pattern(pattern)).match
            for path, file in _listed(store, fixed):
                if matches(path):
                    yield path, file
            return
        [found] = FileSystems.match([pattern])
        for meta in found.metadata_list:
            changed = meta.last_updated_in_seconds
            version = f"{meta.size_in_bytes}-{changed}"
            yield meta.path, StoredFile(meta.size_in_bytes, changed, version)


def match_below(directory: str) -> Iterator[tuple[str, StoredFile]]:
    """The files with a scheme that lie below a directory, with their paths.

    Raises:
      OSError, ValueError: as `match`.
    """
    prefix = directory.rstrip("/") + "/"
    store = store_of(prefix)
    if store is None:
        yield from match(glob.escape(prefix) + "**")
        return
    with errors_as_oserrors(directory):
        yield from _listed(store, prefix)


def _listed(store: ObjectStore, prefix: str) -> Iterator[tuple[str, StoredFile]]:
    for found in store.listed(prefix):
        yield found.path, StoredFile(found.size, found.modified, found.version)


def list_names(directory: str) -> list[str]:
    """Sorted names directly in a directory; [] if there is no such directory."""
    if is_local(directory):
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []
    prefix = directory.rstrip("/") + "/"
    return sorted({path[len(prefix) :].split("/")[0] for path, _ in match_below(directory)})


def list_files(directory: str) -> dict[str, StoredFile]:
    """All files below a directory, by path below it; {} if there is no such directory.

    What vanishes meanwhile is left out.
    """
    if not is_local(directory):
        prefix = directory.rstrip("/") + "/"
        return {path[len(prefix) :]: file for path, file in match_below(directory)}
    found: dict[str, StoredFile] = {}
    for parent, _, names in os.walk(directory, onerror=_unless_gone):
        for name in names:
            path = os.path.join(parent, name)
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                file = StoredFile(status.st_size, status.st_mtime, version(status))
                found[os.path.relpath(path, directory)] = file
    return found


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def checksum(path: str, directories: int | None = None) -> str:
    """What changes when a byte of the file does: SHA-256, or what its filesystem keeps.

    Args:
      path: of the file.
      directories: as for `arrow_input`; None: a link is followed.

    Raises:
      OSError: the file is not there or cannot be read.
    """
    store = store_of(path)
    if store:
        found = asking(path, lambda: store.look(path))
        if found is None:
            raise FileNotFoundError(f"{path} is not there")
        return found.checksum
    if not is_local(path):
        return str(FileSystems.checksum(path))
    digest = hashlib.sha256()
    opened = open(path, "rb") if directories is None else open_unlinked(path, directories)
    with opened as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


@contextlib.contextmanager
def arrow_input(path: str, directories: int = 0) -> Iterator[pa.NativeFile]:
    """An Arrow file for reading `path`, closed at the end.

    Args:
      path: a local one is opened as `open_unlinked` does it.
      directories: how many of its directories may be no links either.
    """
    if is_local(path):
        # Arrow's threads read it then without Python, which may be at its end by that time.
        with (
            open_unlinked(path, directories) as file,
            pa.OSFile(f"/dev/fd/{file.fileno()}", "rb") as arrow_file,
        ):
            yield arrow_file
        return
    with open_input(path) as file, pa.PythonFile(file, mode="r") as arrow_file:
        yield arrow_file
