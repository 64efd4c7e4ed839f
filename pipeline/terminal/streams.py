"""The process's standard streams, which whoever started it may have closed, or may stop reading.

A job is worth more than its words: neither ends it. Imports nothing of what may be broken.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


def outlast() -> None:
    """To be called first: opens what is closed, and makes Python's streams take any writing.

    The next file that is opened would get the number of a closed stream, and libraries would write
    their words into it. Streams that somebody else has put in the place of Python's stay.
    """
    for number in (0, 1, 2):
        if _is_closed(number):
            _to_nowhere(number)
    if sys.stdout is sys.__stdout__ and not _outlasting(sys.stdout):
        sys.stdout = sys.__stdout__ = _stream(1, sys.stdout)  # type: ignore[misc]
    if sys.stderr is sys.__stderr__ and not _outlasting(sys.stderr):
        sys.stderr = sys.__stderr__ = _stream(2, sys.stderr)  # type: ignore[misc]


def lost() -> OSError | None:
    """Why the last words on stdout did not get where they should; None if they did."""
    stream = _outlasting(sys.stdout)
    return stream.error if stream else None


def reader_is_gone() -> bool:
    """Whether nobody reads stdout any more."""
    return isinstance(lost(), BrokenPipeError)


class _Outlasting(io.FileIO):
    """A file descriptor that goes nowhere after a failure.

    It is a copy of the standard one: what is written here passes by whoever holds that one back,
    as `transforms.machine.native_stderr` does.
    """

    error: OSError | None = None

    def __init__(self, number: int):
        super().__init__(os.dup(number), "w")
        self._number = number

    def write(self, data: object) -> int | None:  # type: ignore[override]
        """As a file's; what fails is lost, and so is all that comes after it."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            self.error = error
            for number in (self._number, self.fileno()):
                _to_nowhere(number)
            return memoryview(data).nbytes  # type: ignore[arg-type]


def _stream(number: int, before: TextIO | None) -> io.TextIOWrapper:
    raw = _Outlasting(number)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",  # names of files may have no text
        line_buffering=number == 2 or raw.isatty(),
    )


def _outlasting(stream: TextIO | None) -> _Outlasting | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Outlasting) else None


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _to_nowhere(number: int) -> None:
    """Children inherit it, as they do a standard stream."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == number:
        os.set_inheritable(number, True)
        return
    os.dup2(nowhere, number)
    os.close(nowhere)
