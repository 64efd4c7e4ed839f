"""A file object on an object of a store, which reads the ranges that it is asked for.

All ranges are of the object as it was when it was opened.
"""

from __future__ import annotations

import errno
import io
import os

from transforms.storage.clients import asking
from transforms.storage.object_stores import ObjectStore
from transforms.storage.objects import StoredObject

# The first request of a place asks for this much, each that goes on where it ended for twice as
# much: headers and footers cost little, and a file that is read to its end few requests.
_FIRST_BYTES = 64 * 2**10
_MOST_BYTES = 8 * 2**20


def open_object(store: ObjectStore, path: str) -> io.BufferedReader:
    """Opens an object for reading.

    Raises:
      FileNotFoundError: there is none.
      OSError: it cannot be read.
    """
    return io.BufferedReader(_ObjectInput(store, path))


class _ObjectInput(io.RawIOBase):
    def __init__(self, store: ObjectStore, path: str):
        self._store, self._path = store, path
        self._at = self._start = 0
        self._object, self._bytes = asking(self._path, self._first)

    @property
    def version(self) -> str:
        """Of the object that is read, whatever lies there by now."""
        return self._object.version

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._object.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        end = self._start + len(self._bytes)
        if not self._start <= self._at < end and self._at < self._object.size:
            ahead = min(2 * len(self._bytes), _MOST_BYTES) if self._at == end else _FIRST_BYTES
            stop = min(self._at + max(len(buffer), ahead), self._object.size)
            self._bytes = asking(self._path, lambda: self._range(self._object, self._at, stop))
            self._start = self._at
        if self._at >= self._object.size:
            return 0
        piece = self._bytes[self._at - self._start :][: len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _first(self) -> tuple[StoredObject, bytes]:
        found = self._store.look(self._path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", self._path)
        return found, self._range(found, 0, min(_FIRST_BYTES, found.size))

    def _range(self, found: StoredObject, start: int, stop: int) -> bytes:
        data = self._store.read_range(found, start, stop) if start < stop else b""
        if data is None:
            raise OSError(errno.ESTALE, "was replaced or deleted while it was read", self._path)
        return data
