"""Gzip and ZLIB streams, read as the file that went into them.

Like `gzip.GzipFile`, but for both containers, and it tells how much of a stream was not read. What
lies before the place where a stream is damaged or cut is read; then reading raises. So it does
where a stream has become so many times its size as no images do: reading has an end, and soon.
"""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

GZIP_MAGIC = b"\x1f\x8b"

_CHUNK = 2**15
_PIECE = 2**13  # what comes out at a time: of the piece in which damage is met nothing does
# Images are compressed already, and flat colours in BMPs go down to a twentieth.
_MAX_RATIO = 100
_FREE_BYTES = 2**28
_EITHER = zlib.MAX_WBITS | 32  # gzip or ZLIB, as the header says


def is_zlib(head: bytes) -> bool:
    """Whether a file that begins like this is a ZLIB stream (RFC 1950, section 2.2).

    Its first two bytes are those of one in thousands of other files, so some of it is inflated.

    >>> is_zlib(zlib.compress(b"x")), is_zlib(b"text")
    (True, False)
    """
    if len(head) < 2 or head[0] & 15 != 8 or head[0] >> 4 > 7 or int.from_bytes(head[:2]) % 31:
        return False
    try:
        zlib.decompressobj().decompress(head, 1)
    except zlib.error:
        return False
    return True


class InflatedFile(io.RawIOBase):
    """A compressed stream for reading, to be buffered. Seeking back inflates it anew.

    Args:
      file: the stream; closed with this one. Several streams one after the other are one file.

    Reading raises `EOFError` where it is cut off and `zlib.error` where it is damaged or has become
    256 MiB and 100 times its size.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._stored = file.seek(0, io.SEEK_END)
        self._most = max(_FREE_BYTES, _MAX_RATIO * self._stored)
        self._rewind()

    @property
    def stored(self) -> int:
        """Bytes of the stream as it is stored."""
        return self._stored

    @property
    def left(self) -> int:
        """Compressed bytes that were not inflated."""
        return self._stored - self._file.tell() + len(self._input)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        """Inflates up to as many bytes as the buffer takes; 0 at the end."""
        data = self._inflate(min(_PIECE, len(buffer)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a place from the beginning, or from the current one."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end of a stream is not known")
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if target < self._at:
            self._rewind()
        while self._at < target:
            skipped = self._inflate(min(_PIECE, target - self._at))
            if not skipped:
                break
            self._at += len(skipped)
        return self._at

    def tell(self) -> int:
        """How many bytes were inflated."""
        return self._at

    def close(self) -> None:
        """Closes the stream, too."""
        if not self.closed:
            self._file.close()
        super().close()

    def _rewind(self) -> None:
        self._file.seek(0)
        self._at = 0
        self._input = b""
        self._begin()

    def _begin(self) -> None:
        """Before the first stream, or the next one."""
        self._stream = zlib.decompressobj(_EITHER)
        self._begun = False

    def _inflate(self, size: int) -> bytes:
        """The next bytes, up to `size`; none at the end."""
        while True:
            if self._begun and self._stream.eof:
                self._input = self._stream.unused_data
                self._begin()
            if not self._begun:
                self._input = self._input.lstrip(b"\0")  # gzip may be padded
            data = b""
            if self._begun or self._input:
                self._begun = True
                data = self._stream.decompress(self._input, size)
                self._input = self._stream.unconsumed_tail
            if self._at + len(data) > self._most:
                raise zlib.error(
                    f"it becomes more than {self._most:,} bytes, and more than {_MAX_RATIO} times "
                    "its size, as no images do; decompress it"
                )
            if data:
                return data
            if not self._input and not self._stream.eof:
                self._input = self._file.read(_CHUNK)
                if not self._input and self._begun:
                    raise EOFError("the compressed stream is cut off")
                if not self._input:
                    return b""
