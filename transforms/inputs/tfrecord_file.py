"""TFRecord files: where their records lie, and the bytes of each.

Format (tensorflow/core/lib/io/record_writer.h): uint64 length, uint32 masked CRC-32C of the
length, data, uint32 masked CRC-32C of the data; little-endian; the whole file may be a gzip or a
ZLIB stream. A damaged record costs that record. After a damaged length the next record is searched
for; what lies between is a gap, which is one error row that says at which byte. Damage of the
compressed stream itself costs the rest of the file.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import BinaryIO, NamedTuple, cast

from transforms import storage
from transforms.errors import ImageTooLargeError, InputChangedError, RecordError
from transforms.inputs.inflated import GZIP_MAGIC, InflatedFile, is_zlib
from transforms.inputs.record_search import (
    CRC,
    HEADER_BYTES,
    Effort,
    data_fits,
    find_record,
    masked_crc,
    record_length,
)
from transforms.refs import ImageRef, content_version, is_content_version
from transforms.storage import causes, retries

_CHANGED = "the file has changed since it was listed; run again"

# Even the smallest image takes more bytes of a file, compressed or not, unless all are the same.
_MIN_RECORD_BYTES = 32
_FREE_RECORDS = 2**14

# How often a compressed stream is inflated from its beginning to search for records in it.
_INFLATIONS = 32
_HEAD_BYTES = 4096


class Place(NamedTuple):
    """Where a record lies, or a gap in which there may be several that cannot be found.

    Attributes:
      offset: first byte, in the decompressed file.
      length: bytes of the record's data; None for a gap.
      lost: bytes of the gap; of one at the end of a compressed stream that is damaged those that
        were inflated, and the compressed ones that were not.
    """

    offset: int
    length: int | None
    lost: int = 0


def open_records(path: str, version: str = "") -> BinaryIO:
    """Opens a TFRecord file, plain, gzip or ZLIB: by its first bytes, not by its name.

    Args:
      path: of the file.
      version: that it is to have, where it matters and can be known.

    Raises:
      OSError: it cannot be read.
      InputChangedError: it has another version.
    """
    file = storage.open_input(path)
    if version and storage.opened_version(file) not in ("", version):
        file.close()
        raise InputChangedError(_CHANGED)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if record_length(head) is None and (head.startswith(GZIP_MAGIC) or is_zlib(head)):
        return cast(BinaryIO, io.BufferedReader(InflatedFile(file), 2**13))
    return file


def scan(path: str) -> Iterator[Place]:
    """Yields the place of each record, reading only the headers where it can.

    Where a record's length is damaged, or its end is missing, a gap follows up to the next record
    that can be found; reading it says what is wrong. So does one where there are more records than
    images have room in the file as it is stored.
    """
    with open_records(path) as file:
        most = _most_records(file)
        for index, place in enumerate(_places(file)):
            if index == most:
                yield _rest(file, place.offset)
                return
            yield place


def _places(file: BinaryIO) -> Iterator[Place]:
    compressed = is_compressed(file)
    size = None if compressed else _size(file)
    effort = Effort(returns=_INFLATIONS) if compressed else Effort()
    offset = 0
    before: Place | None = None  # whether it is whole is not known until another one follows
    while True:
        try:
            place = _place(file, offset, size)
            if place is None:
                break
            if place.length is not None:
                if before:
                    yield before
                before = place
                offset += HEADER_BYTES + place.length + CRC.size
                continue
            if before and not data_fits(file, before.offset, before.length or 0):
                offset, before = before.offset, None  # bytes are missing in it, or too many
            found = find_record(file, offset + 1, size, effort)
        except (EOFError, OSError, zlib.error) as error:
            if causes.is_transient(error):
                raise
            found = None
        if before:
            yield before
            before = None
        if found is None:
            yield _rest(file, offset)
            return
        yield Place(offset, None, found - offset)
        offset = found
    if before:
        yield before


def read_records(
    path: str, refs: Iterable[ImageRef], max_bytes: int
) -> Generator[bytes | Exception, None, None]:
    """Reads one file's records, in order of offset: the data of each, or what is wrong with it."""
    with contextlib.closing(_RecordFile(path)) as file:
        for ref in refs:
            data: bytes | Exception
            try:
                data = file.read(ref, max_bytes)
            except (EOFError, zlib.error) as error:
                data = RecordError(
                    f"{where(ref)} is in a damaged part of the compressed stream: {error}"
                )
            except Exception as error:  # noqa: BLE001 - a filesystem may raise anything
                data = error
            yield InputChangedError(_CHANGED) if _has_changed(path, ref, data) else data


def _has_changed(path: str, ref: ImageRef, data: bytes | Exception) -> bool:
    """Whether another record may have been read; looked at after reading, where that is cheap."""
    if is_content_version(ref.version):
        return isinstance(data, bytes) and content_version(data) != ref.version
    if ref.version and storage.is_local(path):
        with contextlib.suppress(OSError):  # reading said what is wrong
            now = storage.find(path)
            return now is not None and now.version != ref.version
    return False


class _RecordFile:
    """An open TFRecord file that is opened anew after a transient error.

    When the attempts for one record are spent, the others get one each: the server is away.
    """

    def __init__(self, path: str):
        self._path = path
        self._file: BinaryIO | None = None
        self._version = self._gone = ""
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
        version = "" if is_content_version(ref.version) else ref.version
        if self._file is None or version != self._version:
            self.close()
            if version and version == self._gone:
                raise InputChangedError(_CHANGED)
            try:
                self._file = open_records(self._path, version)
            except InputChangedError:  # other records may lie there now
                self._gone = version
                raise
            self._version = version
        try:
            return _read_record(self._file, ref, max_bytes)
        except Exception as error:
            if causes.is_transient(error):
                self.close()
            raise


def _read_record(file: BinaryIO, ref: ImageRef, max_bytes: int) -> bytes:
    file.seek(ref.offset or 0)
    header = file.read(HEADER_BYTES)
    place = where(ref)
    length = record_length(header)
    if length is None and ref.size is not None:
        raise InputChangedError(f"{place} is no record, and was one when it was listed")
    if length is None:
        what = "is cut off" if len(header) < HEADER_BYTES else "has a damaged length"
        raise RecordError(f"{place} {what}: nothing can be read up to the next record, if any")
    if ref.size is None:
        most = _most_records(file)
        if (ref.record_index or 0) >= most:
            raise RecordError(
                f"{place} is one of more than {most:,}, one for each {_MIN_RECORD_BYTES} bytes of "
                "the file as it is stored: it is not read, nor are those that follow"
            )
        if is_compressed(file):
            file.seek(length, io.SEEK_CUR)  # raises what is wrong with the stream
        raise RecordError(f"{place} is cut off or damaged: no record begins where it should end")
    if length > max_bytes:
        raise ImageTooLargeError(f"{place} has {length} bytes, over max_file_bytes {max_bytes}")
    data = file.read(length)
    crc = file.read(CRC.size)
    if len(data) < length or len(crc) < CRC.size:
        raise InputChangedError(f"{place} is cut off, and was whole when it was listed")
    if CRC.unpack(crc)[0] != masked_crc(data):
        raise RecordError(f"{place} is damaged: its checksum does not fit its data")
    return data


def where(ref: ImageRef) -> str:
    """Where a record lies in its file, for messages."""
    return f"record {ref.record_index} at byte {ref.offset}"


def _place(file: BinaryIO, offset: int, size: int | None) -> Place | None:
    """What begins at an offset; None at the end of the file. A gap is not measured."""
    file.seek(offset)
    header = file.read(HEADER_BYTES)
    if not header:
        return None
    length = record_length(header)
    if length is None:
        return Place(offset, None)
    end = offset + HEADER_BYTES + length + CRC.size
    if size is None:
        file.seek(end - 1)
        complete = len(file.read(1)) == 1
    else:
        complete = end <= size
    return Place(offset, length if complete else None)


def is_compressed(file: BinaryIO) -> bool:
    """Whether what `open_records` opened is a compressed stream."""
    return _compressed(file) is not None


def _compressed(file: BinaryIO) -> InflatedFile | None:
    raw = getattr(file, "raw", None)
    return raw if isinstance(raw, InflatedFile) else None


def _most_records(file: BinaryIO) -> int:
    """How many records a file may hold."""
    compressed = _compressed(file)
    stored = _size(file) if compressed is None else compressed.stored
    return max(_FREE_RECORDS, stored // _MIN_RECORD_BYTES)


def _rest(file: BinaryIO, offset: int) -> Place:
    """The gap from an offset to the end of the file, or of a compressed one as far as it is known.

    What is open then stands at its end.
    """
    compressed = _compressed(file)
    if compressed is None:
        end = _size(file)
    else:
        with contextlib.suppress(EOFError, zlib.error):
            while compressed.read(2**16):
                pass
        end = compressed.tell() + compressed.left
    return Place(offset, None, max(1, end - offset))


def _size(file: BinaryIO) -> int:
    return file.seek(0, io.SEEK_END)
