"""How many images are done, told by the processes of this machine to the one that shows it.

`BEAM_IMAGE_FEATURES_TALLY` names a directory; a process that computes keeps a file of 16 bytes in
it. Parts tell the same for any runner, but only when a whole shard is done. Where the variable is
not set, as on workers elsewhere, nothing is kept.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
import threading
from collections.abc import Iterator

VARIABLE = "BEAM_IMAGE_FEATURES_TALLY"

_COUNTS = struct.Struct("=qq")

_lock = threading.Lock()
_open: dict[tuple[str, int], mmap.mmap] = {}


def add(rows: int, errors: int) -> None:
    """Called where images are done."""
    directory = os.environ.get(VARIABLE)
    if not directory:
        return
    with _lock, contextlib.suppress(OSError):  # it is for the eyes only
        counts = _open.get((directory, os.getpid())) or _create(directory)
        before = _COUNTS.unpack(counts[:])
        counts[:] = _COUNTS.pack(before[0] + rows, before[1] + errors)


def counted(directory: str) -> tuple[int, int]:
    """Rows and errors of all processes that keep a tally in the directory."""
    rows = errors = 0
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            with open(os.path.join(directory, name), "rb") as file:
                counts = file.read(_COUNTS.size)
            if len(counts) == _COUNTS.size:
                one = _COUNTS.unpack(counts)
                rows, errors = rows + one[0], errors + one[1]
    return rows, errors


@contextlib.contextmanager
def kept() -> Iterator[str | None]:
    """This process and those that it starts keep a tally within the body.

    Gives its directory; None where there is no room for one.
    """
    with contextlib.ExitStack() as stack:
        try:
            temporary = tempfile.TemporaryDirectory(
                prefix="image-features-", ignore_cleanup_errors=True
            )
        except OSError:
            yield None
            return
        made = stack.enter_context(temporary)
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = made
        try:
            yield made
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before
            with _lock:
                _open.clear()


def _create(directory: str) -> mmap.mmap:
    with open(os.path.join(directory, str(os.getpid())), "w+b") as file:
        file.write(bytes(_COUNTS.size))
        file.flush()
        counts = mmap.mmap(file.fileno(), _COUNTS.size)
    _open.clear()  # of a job that is over
    _open[directory, os.getpid()] = counts
    return counts
