"""Where the next record begins, after a place in a TFRecord file that makes no sense.

A record's header is 12 bytes: a length, and a checksum of it. Of all places where 12 bytes fit each
other in this way the first one is taken after which a header follows again, or whose data fits its
checksum, too: by chance that is so once in 2^64 places. The time grows with what lies between, at a
gigabyte a second of images; the memory is that of a chunk.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import zlib
from typing import BinaryIO

import google_crc32c
import numpy as np

LENGTH = struct.Struct("<Q")
CRC = struct.Struct("<I")
HEADER_BYTES = LENGTH.size + CRC.size

# Of a record. A length from here on is taken for damage, and leaves few places to search.
MAX_LENGTH = 2**40

# A search begins with few bytes: there may be damage in each record, and the next one is near.
_FIRST_CHUNK = 2**10
_CHUNK = 2**18
_MASK = 0xA282EAD8


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and offset as TFRecord stores it (tensorflow/core/lib/hash/crc32c.h)."""
    return _masked(google_crc32c.value(data))


def record_length(header: bytes) -> int | None:
    """The length that a header tells; None if it is short, damaged or no record has such a one."""
    if len(header) < HEADER_BYTES:
        return None
    if CRC.unpack_from(header, LENGTH.size)[0] != masked_crc(header[: LENGTH.size]):
        return None
    length = int(LENGTH.unpack_from(header)[0])
    return length if length < MAX_LENGTH else None


def data_fits(file: BinaryIO, offset: int, length: int) -> bool:
    """Whether a record is whole: its data fits its checksum."""
    file.seek(offset + HEADER_BYTES)
    crc, left = 0, length
    while left:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            return False
        crc = google_crc32c.extend(crc, chunk)
        left -= len(chunk)
    stored = file.read(CRC.size)
    return len(stored) == CRC.size and CRC.unpack(stored)[0] == _masked(crc)


@dataclasses.dataclass
class Effort:
    """What a search may still cost, in one file, so that no file makes it take for ever.

    Attributes:
      checked: bytes of places that may be records, read to see whether they are.
      returns: how often it may go back to where it was, and how many searches there may be; each
        time a compressed stream is inflated from its beginning.
    """

    checked: int = 2**30
    returns: int = 2**62


def find_record(file: BinaryIO, start: int, size: int | None, effort: Effort) -> int | None:
    """Where the first record begins at or after `start`; None if there is none.

    Args:
      file: to be searched; where it then stands does not matter.
      start: the first byte to look at.
      size: of the file; None if it is not known.
      effort: is used up.

    Raises:
      EOFError, OSError, zlib.error: the file cannot be read any further, and no record was found.
    """
    if effort.returns <= 0:
        return None
    effort.returns -= 1
    file.seek(start)
    window = b""
    size_of_chunk = _FIRST_CHUNK
    while chunk := file.read(size_of_chunk):
        size_of_chunk = min(_CHUNK, 2 * size_of_chunk)
        window += chunk
        for at in _headers_in(window):
            if _is_record(file, start, window, at, size, effort):
                return start + at
            if effort.returns <= 0:
                return None
            effort.returns -= 1
        file.seek(start + len(window))
        kept = min(len(window), HEADER_BYTES - 1)
        start += len(window) - kept
        window = window[len(window) - kept :]
    return None


def _is_record(
    file: BinaryIO, start: int, window: bytes, at: int, size: int | None, effort: Effort
) -> bool:
    """Whether a record begins at `at` of the window, which begins at `start` of the file."""
    (length,) = LENGTH.unpack_from(window, at)
    after = at + HEADER_BYTES + length + CRC.size
    if size is not None and start + after > size:
        return False
    try:
        following = window[after : after + HEADER_BYTES]
        if len(following) < HEADER_BYTES:
            file.seek(start + after)
            following = file.read(HEADER_BYTES)
        if record_length(following) is not None:
            return True
    except (EOFError, zlib.error):
        pass  # of a compressed stream that ends behind it
    if length > effort.checked:
        return False
    effort.checked -= length
    try:
        return data_fits(file, start + at, length)
    except (EOFError, zlib.error):
        return False


def _headers_in(window: bytes) -> list[int]:
    """Where 12 bytes are a length and its checksum."""
    data = np.frombuffer(window, np.uint8)
    places = len(data) - HEADER_BYTES + 1
    if places <= 0 or not data.any():  # 8 zero bytes have another checksum than 0
        return []
    # That is, below `MAX_LENGTH`.
    high = data[5 : 5 + places] | data[6 : 6 + places] | data[7 : 7 + places]
    at = np.flatnonzero(high == 0)
    tables, of_zeros = _crc_tables()
    crc = np.full(len(at), of_zeros, np.uint32)
    for byte, table in enumerate(tables):
        crc ^= table[data[at + byte]]
    masked = (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(_MASK)
    stored = np.zeros(len(at), np.uint32)
    for byte in range(CRC.size):
        stored |= data[at + LENGTH.size + byte].astype(np.uint32) << np.uint32(8 * byte)
    return at[masked == stored].tolist()


@functools.cache
def _crc_tables() -> tuple[list[np.ndarray], int]:
    """What each byte of a length changes in its CRC, which is linear; and that of 8 zero bytes."""
    of_zeros = google_crc32c.value(bytes(LENGTH.size))
    tables = [
        np.array(
            [google_crc32c.value(LENGTH.pack(v << 8 * byte)) ^ of_zeros for v in range(256)],
            np.uint32,
        )
        for byte in range(5)
    ]
    return tables, of_zeros


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
