"""Packs a model as an archive, and unpacks one; nothing is ever written outside one directory.

Python's own `filter="data"` lets later members overwrite earlier ones, knows no size limit, and
takes an archive that ends early or has a damaged header for a whole one. So members are written
here, with plain permissions; only the reading of headers is left to `tarfile`, which reads them
whole, nests one in the other and has no limit for them: they get theirs where their bytes are read.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import os
import posixpath
import shutil
import tarfile
import zlib
from typing import BinaryIO, Protocol

from transforms.machine import entries

_BLOCK_BYTES = 2**20

# Of one member: its header and those before it that say more of it, as its long name. A usual one
# has 512 bytes, or 1,536.
_MAX_HEADER_BYTES = 2**16
# Of all: what is usual for so many members, and a megabyte. Python takes seconds for each megabyte.
_USUAL_HEADER_BYTES = 1536
_FREE_HEADER_BYTES = 2**20
_MAX_NAME = 4096  # Linux's PATH_MAX
_MAX_DEPTH = 100
_MAX_LINKS = 10_000


class ArchiveError(ValueError):
    """An archive that is damaged or that would do harm; the message names the member."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to.

    Attributes:
      max_ratio: unpacked bytes for each byte of the archive, beyond the first `free_bytes`.
      free_bytes: what may always be unpacked, whatever the ratio.
      max_bytes: what may never be exceeded.
      max_members: files, directories and links.
    """

    max_ratio: int = 100
    free_bytes: int = 2**30
    max_bytes: int = 64 * 2**30
    max_members: int = 100_000

    def unpacked_bytes(self, archive_bytes: int) -> int:
        """The most bytes that an archive of `archive_bytes` may unpack to, headers included.

        >>> Limits(max_ratio=100, free_bytes=1000, max_bytes=5000).unpacked_bytes(20)
        2000
        """
        return min(self.max_bytes, max(self.free_bytes, self.max_ratio * archive_bytes))


DEFAULT_LIMITS = Limits()


class Writable(Protocol):
    """What bytes can be written to."""

    def write(self, data: bytes, /) -> int:
        """Takes all of them."""


def pack(path: str, target: Writable) -> None:
    """Writes the files of a directory, or one `.keras` file, as a .tar archive.

    Its bytes follow from the files' names and contents alone: the same model is the same archive on
    any machine. Links are followed.

    Raises:
      OSError: a file cannot be read, or grows shorter meanwhile.
    """
    is_file = os.path.isfile(path)
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        for file in entries.tree_files(path):
            member = tarfile.TarInfo("model.keras" if is_file else os.path.relpath(file, path))
            with open(file, "rb") as content:
                member.size = os.fstat(content.fileno()).st_size
                tar.addfile(member, content)


def unpack(archive: str, directory: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Unpacks a local .tar or .tar.gz file (told by its first bytes) into a new directory.

    Symbolic links to files of the archive are kept; times, owners and permissions are not. Where it
    raises, part of the archive may have been written into `directory`, and nothing elsewhere.

    Raises:
      ArchiveError: the archive is no tar file, truncated or damaged; it unpacks to more than
        `limits`; or a member has an absolute path or `..`, a header, name or depth beyond any
        model's, is a link to anything but a file of the archive, is a device, fifo or sparse file,
        or takes another one's place.
      OSError: `archive` cannot be read or `directory` cannot be written.
    """
    os.makedirs(directory)
    with open(archive, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if gzipped else file
        reader = _BoundedReader(stream, limits.unpacked_bytes(os.path.getsize(archive)))
        try:
            with tarfile.open(fileobj=reader, mode="r|", tarinfo=_StrictTarInfo) as tar:
                _unpack_members(tar, directory, reader, limits.max_members)
            reader.begin_data()
            while reader.read(_BLOCK_BYTES):  # gzip's checksum comes last
                pass
        except ArchiveError:
            raise
        except (ValueError, OverflowError, RecursionError) as error:
            raise ArchiveError(f"after {reader.place}: a damaged header: {error}") from error
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ArchiveError(
                f"not a .tar or .tar.gz archive, or truncated or damaged: {error}"
            ) from error


class _BoundedReader(io.RawIOBase):
    """A stream that refuses to give more than `limit` bytes, or more than a header's for one."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, limit: int):
        self._stream = stream
        self._limit = limit
        self._left = limit
        self._member = ""
        self._of_header: int | None = 0

    @property
    def place(self) -> str:
        """Where in the archive it stands, for messages."""
        return f"member {self._member!r}" if self._member else "its beginning"

    def begin_header(self) -> None:
        """What is read from here on is the header of a member."""
        self._of_header = 0

    def begin_data(self, member: str = "") -> None:
        """What is read from here on is the data of a member."""
        self._of_header = None
        self._member = member[:200] or self._member

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ArchiveError(
                f"{self.place}: here the archive has unpacked to more than "
                f"{self._limit:,} bytes, as an archive does that is meant to fill the disk"
            )
        if self._of_header is not None:
            self._of_header += len(data)
            if self._of_header > _MAX_HEADER_BYTES + tarfile.RECORDSIZE:  # which is read ahead
                raise ArchiveError(
                    f"after {self.place}: a header of more than {_MAX_HEADER_BYTES:,} bytes, as no "
                    "model's archive has"
                )
        return data


class _StrictTarInfo(tarfile.TarInfo):
    """A header that must be whole, where `tarfile` takes a damaged or missing one for the end."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # the mark of the end
            raise tarfile.ReadError(str(error)) from error
        except ValueError as error:  # a name that cannot be decoded
            raise tarfile.ReadError(str(error)) from error


def _unpack_members(
    tar: tarfile.TarFile, directory: str, reader: _BoundedReader, max_members: int
) -> None:
    links = []
    count = headers = end = 0
    while member := tar.next():
        reader.begin_data(member.name)
        count += 1
        if count > max_members:
            raise ArchiveError(f"member {member.name!r}: more than {max_members:,} members")
        headers += member.offset_data - end
        if headers > _FREE_HEADER_BYTES + _USUAL_HEADER_BYTES * count:
            raise ArchiveError(
                f"member {member.name[:200]!r}: up to here the headers have {headers:,} bytes, "
                "far more than usual"
            )
        path = os.path.join(directory, _relative_path(member))
        try:
            if member.issym():  # made last, in real directories: nothing is written through one
                os.makedirs(os.path.dirname(path), exist_ok=True)
                links.append((_without_headers(member), path))
                if len(links) > _MAX_LINKS:
                    raise ArchiveError(f"member {member.name!r}: more than {_MAX_LINKS:,} links")
            else:
                _write_member(tar, member, directory, path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise _taken(member) from error
        if sum(map(len, tar.pax_headers.values())) > _MAX_HEADER_BYTES:  # each member gets a copy
            raise ArchiveError(
                f"the headers for all members have more than {_MAX_HEADER_BYTES:,} bytes"
            )
        end = tar.offset
        tar.members.clear()  # type: ignore[attr-defined]  # of 100,000 it would keep the headers
        reader.begin_header()
    if count == 0:
        raise ArchiveError("the archive is empty")
    for member, path in links:
        try:
            os.symlink(_link_target(member), path)
        except FileExistsError as error:
            raise _taken(member) from error
    for member, path in links:
        if not os.path.isfile(path):  # one to a directory could make it contain itself
            raise ArchiveError(
                f"member {member.name!r}: a link to {member.linkname!r}, which is no file of the "
                "archive"
            )


def _without_headers(link: tarfile.TarInfo) -> tarfile.TarInfo:
    """What is needed to make a symbolic link: there may be thousands, with all that they say."""
    kept = tarfile.TarInfo(link.name)
    kept.type, kept.linkname = tarfile.SYMTYPE, link.linkname
    return kept


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, directory: str, path: str) -> None:
    """Writes a file, a directory or a hard link. There are no symbolic links yet to follow."""
    if member.isdir():
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if member.islnk():
        target = os.path.join(directory, _link_target(member))
        if not os.path.isfile(target):
            raise ArchiveError(
                f"member {member.name!r}: a hard link to {member.linkname!r}, which is no file "
                "before it in the archive"
            )
        os.link(target, path)
        return
    source = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if source is None:
        raise ArchiveError(f"member {member.name!r}: a device, fifo, sparse or other special file")
    with source, open(path, "xb") as file:
        shutil.copyfileobj(source, file, _BLOCK_BYTES)


def _relative_path(member: tarfile.TarInfo) -> str:
    """The member's path, which is sure to stay below the directory that it is joined to."""
    for what, name in (("name", member.name), ("link", member.linkname)):
        if len(name) > _MAX_NAME:
            raise ArchiveError(
                f"member {member.name[:80]!r}…: a {what} of more than {_MAX_NAME:,} characters"
            )
    if member.name.count("/") > _MAX_DEPTH:
        raise ArchiveError(f"member {member.name[:200]!r}: more than {_MAX_DEPTH} directories deep")
    if member.size < 0:
        raise ArchiveError(f"member {member.name!r}: a size of {member.size} bytes")
    if member.name.startswith("/"):
        raise ArchiveError(f"member {member.name!r}: an absolute path")
    if ".." in member.name.split("/"):
        raise ArchiveError(f"member {member.name!r}: its path has '..' in it")
    if "\0" in member.name + member.linkname:
        raise ArchiveError(f"member {member.name!r}: its name has a zero byte in it")
    return posixpath.normpath(member.name)


def _link_target(member: tarfile.TarInfo) -> str:
    """What a link is to point to: for a symbolic one from its own place, else from the top.

    Once normalised, `..` is left only in front, where it walks up directories and no links; so
    the path as it is written decides where the link ends.
    """
    target = posixpath.normpath(member.linkname)
    start = posixpath.dirname(_relative_path(member)) if member.issym() else ""
    end = posixpath.normpath(posixpath.join(start, target))
    if target.startswith("/") or end == ".." or end.startswith("../"):
        raise ArchiveError(
            f"member {member.name!r}: a link to {member.linkname!r}, which is outside the archive"
        )
    return target


def _taken(member: tarfile.TarInfo) -> ArchiveError:
    return ArchiveError(f"member {member.name!r}: another member has its place already")
