"""TFRecord files: where their records lie, and the bytes of each.

Format (tensorflow/core/lib/io/record_writer.h): uint64 length, uint32 masked CRC-32C of the
length, data, uint32 masked CRC-32C of the data; little-endian; the whole file may be gzipped.
A damaged record costs that record. A damaged length costs the rest of the file, as there is no way
to find the next record; that is one error row that says at which byte.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import BinaryIO, cast

import google_crc32c

from transforms import storage
from transforms.errors import ImageTooLargeError, RecordError
from transforms.refs import ImageRef, content_version, is_content_version
from transforms.storage import causes, retries

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_CHANGED = "the file has changed since it was listed; run again"

_HEADER_BYTES = _LENGTH.size + _CRC.size


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and offset as TFRecord stores it (tensorflow/core/lib/hash/crc32c.h)."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def open_records(path: str) -> BinaryIO:
    """Opens a TFRecord file, plain or gzipped: by its first bytes, not by its name."""
    file = storage.open_input(path)
    head = file.read(_HEADER_BYTES)
    file.seek(0)
    if head[:2] == b"\x1f\x8b" and _length(head) is None:
        return cast(BinaryIO, gzip.GzipFile(fileobj=io.BufferedReader(cast(io.RawIOBase, file))))
    return file


def scan(path: str) -> Iterator[tuple[int, int | None]]:
    """Yields (byte offset, data length) of each record, reading only the headers where it can.

    A record whose end is missing or whose length cannot be trusted is yielded with length None and
    is the last one: reading it says what is wrong.
    """
    with open_records(path) as file:
        size = None if isinstance(file, gzip.GzipFile) else _size(file)
        offset = 0
        while True:
            try:
                file.seek(offset)
                header = file.read(_HEADER_BYTES)
                length = _length(header)
                if not header:
                    return
                if length is None:
                    yield offset, None
                    return
                end = offset + _HEADER_BYTES + length + _CRC.size
                if size is None:
                    file.seek(end - 1)
                    complete = len(file.read(1)) == 1
                else:
                    complete = end <= size
            except (EOFError, OSError, zlib.error) as error:
                if causes.is_transient(error):
                    raise
                yield offset, None
                return
            yield offset, length if complete else None
            if not complete:
                return
            offset = end


def read_records(
    path: str, refs: Iterable[ImageRef], max_bytes: int
) -> Generator[bytes | Exception, None, None]:
    """Reads one file's records, in order of offset: the data of each, or what is wrong with it."""
    now = None
    with contextlib.suppress(OSError):  # reading says what is wrong
        now = storage.find(path)
    with contextlib.closing(_RecordFile(path)) as file:
        for ref in refs:
            by_content = is_content_version(ref.version)
            if now and ref.version and now.version != ref.version and not by_content:
                yield RecordError(_CHANGED)  # other records may lie there now
                continue
            try:
                data = file.read(ref, max_bytes)
                same = not by_content or content_version(data) == ref.version
                yield data if same else RecordError(_CHANGED)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                yield RecordError(f"{where(ref)} is in a damaged part of the gzip stream: {error}")
            except Exception as error:  # noqa: BLE001 - a filesystem may raise anything
                yield error


class _RecordFile:
    """An open TFRecord file that is opened anew after a transient error.

    When the attempts for one record are spent, the others get one each: the server is away.
    """

    def __init__(self, path: str):
        self._path = path
        self._file: BinaryIO | None = None
        self._attempts = retries.ATTEMPTS

    def read(self, ref: ImageRef, max_bytes: int) -> bytes:
        """The data of one record."""
        try:
            return retries.retrying(lambda: self._attempt(ref, max_bytes), self._attempts)
        except Exception as error:
            if causes.is_transient(error):
                self._attempts = 1
            raise

    def close(self) -> None:
        """Closes the file, if it is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _attempt(self, ref: ImageRef, max_bytes: int) -> bytes:
        if self._file is None:
            self._file = open_records(self._path)
        try:
            return _read_record(self._file, ref, max_bytes)
        except Exception as error:
            if causes.is_transient(error):
                self.close()
            raise


def _read_record(file: BinaryIO, ref: ImageRef, max_bytes: int) -> bytes:
    file.seek(ref.offset or 0)
    header = file.read(_HEADER_BYTES)
    place = where(ref)
    length = _length(header)
    if length is None:
        what = "is cut off" if len(header) < _HEADER_BYTES else "has a damaged length"
        raise RecordError(f"{place} {what}: the rest of the file cannot be read")
    if ref.size is None:
        raise RecordError(f"{place} is cut off: the rest of the file cannot be read")
    if length > max_bytes:
        raise ImageTooLargeError(f"{place} has {length} bytes, over max_file_bytes {max_bytes}")
    data = file.read(length)
    crc = file.read(_CRC.size)
    if len(data) < length or len(crc) < _CRC.size:
        raise RecordError(f"{place} is cut off")
    if _CRC.unpack(crc)[0] != masked_crc(data):
        raise RecordError(f"{place} is damaged: its checksum does not fit its data")
    return data


def where(ref: ImageRef) -> str:
    """Where a record lies in its file, for messages."""
    return f"record {ref.record_index} at byte {ref.offset}"


def _length(header: bytes) -> int | None:
    """The record's length, or None if the header is short or its checksum does not fit."""
    if len(header) < _HEADER_BYTES:
        return None
    if _CRC.unpack_from(header, _LENGTH.size)[0] != masked_crc(header[: _LENGTH.size]):
        return None
    return _LENGTH.unpack_from(header)[0]


def _size(file: BinaryIO) -> int:
    return file.seek(0, io.SEEK_END)
