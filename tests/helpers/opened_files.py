"""How often the files of directories are opened, by whatever process: the kernel counts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import select
import struct
import threading
from collections.abc import Iterator

_IN_OPEN, _IN_Q_OVERFLOW, _IN_ISDIR = 0x20, 0x4000, 0x40000000
_HEADER = struct.Struct("iIII")


class OpenedFiles:
    """Counts while it is used as a context manager."""

    def __init__(self, *directories: pathlib.Path):
        self._directories = directories
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._count = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def __enter__(self) -> OpenedFiles:
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for directory in self._directories:
            watch = self._libc.inotify_add_watch(self._handle, bytes(directory), _IN_OPEN)
            assert watch >= 0, os.strerror(ctypes.get_errno())
        self._thread = threading.Thread(target=self._read, name="opened files")
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._handle)

    def count(self) -> int:
        """How many openings there were until now."""
        with self._lock:
            self._take()
            return self._count

    def _read(self) -> None:
        while not self._stop.is_set():  # the kernel keeps 16,384 events at most
            if select.select([self._handle], [], [], 0.05)[0]:
                with self._lock:
                    self._take()

    def _take(self) -> None:
        for mask in self._masks():
            assert not mask & _IN_Q_OVERFLOW, "events came faster than they were counted"
            self._count += not mask & _IN_ISDIR

    def _masks(self) -> Iterator[int]:
        with contextlib.suppress(BlockingIOError):
            while events := os.read(self._handle, 2**16):
                at = 0
                while at < len(events):
                    _, mask, _, length = _HEADER.unpack_from(events, at)
                    at += _HEADER.size + length
                    yield mask
