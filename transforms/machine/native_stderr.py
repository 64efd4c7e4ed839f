"""What libraries write to file descriptor 2 past all of Python's logging.

The descriptor is the process's: while it is held back, what other native code writes is held back,
too, and shown a moment later. One thread at a time holds it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

# What libjpeg says of a damaged image, without naming it (jerror.h).
LIBJPEG = (
    b"Application transferred",
    b"Arithmetic table",
    b"Bogus ",
    b"CCIR601 sampling",
    b"Corrupt JPEG data",
    b"DCT ",
    b"Didn't expect more than one scan",
    b"Empty JPEG image",
    b"Fractional sampling",
    b"Huffman ",
    b"IDCT output block size",
    b"Improper call to JPEG library",
    b"Inconsistent progression",
    b"Input file read error",
    b"Insufficient memory",
    b"Invalid JPEG file",
    b"Invalid SOS parameters",
    b"Invalid component ID",
    b"Invalid crop request",
    b"Invalid progressive",
    b"JPEG datastream",
    b"Maximum supported image dimension",
    b"Missing Huffman",
    b"Not a JPEG file",
    b"Premature end of",
    b"Quantization table",
    b"Sampling factors",
    b"Sorry, there are legal restrictions",
    b"Too many color components",
    b"Unknown Adobe color",
    b"Unsupported ",
    b"Warning: unknown JFIF",
)

_lock = threading.Lock()
_real: list[int] = []  # the descriptor that file descriptor 2 was, while it is held back


@contextlib.contextmanager
def shown_if_it_fails() -> Iterator[None]:
    """Drops what native code writes, unless the body raises; what Python prints appears."""
    with _held_back() as (held, real), _python_stderr_on(real):
        try:
            yield
        except BaseException:
            _write(real, _read(held))
            raise


@contextlib.contextmanager
def without(prefixes: tuple[bytes, ...]) -> Iterator[list[str]]:
    """Keeps the lines that begin with one of `prefixes`; all others appear afterwards.

    Gives the list of those kept, each once, which is filled at the end.
    """
    kept: dict[str, None] = {}
    given: list[str] = []
    with _held_back() as (held, real):
        try:
            yield given
        finally:
            lines = _read(held).splitlines(keepends=True)
            for line in lines:
                if line.startswith(prefixes):
                    kept[line.decode(errors="backslashreplace").strip()] = None
            given += kept
            told = b"".join(line for line in lines if not line.startswith(prefixes))
            _write(real, told)


def give_back() -> None:
    """For the last words of a process that ends at once: they go where they should."""
    if _real:
        os.dup2(_real[0], 2)


@contextlib.contextmanager
def _held_back() -> Iterator[tuple[int, int]]:
    """The file that takes what is written, and where it would have gone."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_lock)
        try:
            if (
                sys.__stderr__ is None
            ):  # it was closed at the start: another file may have its number
                raise OSError
            held = stack.enter_context(tempfile.TemporaryFile()).fileno()
            real = os.dup(2)
        except OSError:  # nowhere to hold it, or it is closed: then it is not held
            held = real = os.open(os.devnull, os.O_RDWR)
            stack.callback(os.close, real)
            yield held, real
            return
        _real.append(real)
        os.dup2(held, 2)
        try:
            yield held, real
        finally:
            os.dup2(real, 2)
            _real.clear()
            os.close(real)


@contextlib.contextmanager
def _python_stderr_on(real: int) -> Iterator[None]:
    """Lets what Python prints pass, where that goes to file descriptor 2 as well."""
    before = sys.stderr
    try:
        is_held = bool(_real) and before.fileno() == 2
    except (AttributeError, OSError, ValueError):  # none, closed, or no file
        is_held = False
    if not is_held:
        yield
        return
    sys.stderr = os.fdopen(os.dup(real), "w", buffering=1, encoding="utf-8", errors="replace")
    try:
        yield
    finally:
        ours, sys.stderr = sys.stderr, before
        with contextlib.suppress(OSError):  # nobody reads it any more
            ours.flush()


def _write(real: int, told: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more
        while told:
            told = told[os.write(real, told) :]


def _read(held: int) -> bytes:
    return os.pread(held, os.fstat(held).st_size, 0)
