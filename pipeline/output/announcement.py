"""That a run is about to take an output, told on this machine while it lists and loads.

The output itself is not touched before the run knows that nothing is wrong with the command. The
announcement is a lock on a file in the cache: it ends with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator

from transforms import storage
from transforms.machine.cache import cache_path
from transforms.storage import open_unlinked


@contextlib.contextmanager
def announced(directory: str) -> Iterator[None]:
    """Announces a run within the body, where there is room for a file."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            path = _path(directory)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            stack.enter_context(_lock(path))
        yield


def is_announced(directory: str) -> bool:
    """Whether a run of this user on this machine has begun, and has not ended."""
    try:
        with open_unlinked(_path(directory)) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """A shared lock on a file, which goes with the last that has it."""
    while True:
        file = open(path, "ab")
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # no lock is worth waiting for
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                break
        file.close()  # another run has ended meanwhile, and has taken it away
    try:
        yield
    finally:
        with file, contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)


def _path(directory: str) -> str:
    name = hashlib.sha256(storage.absolute(directory).encode("utf-8", "replace")).hexdigest()[:16]
    return cache_path("runs", name)
