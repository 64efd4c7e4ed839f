"""The process's standard streams, which whoever started it may have closed, or may stop reading.

A job is worth more than its words: neither ends it. Names of files, URIs and what servers answer
may hold what a terminal obeys: it is shown and not sent. Imports nothing of what may be broken.
"""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TextIO, cast

# C0, DEL and C1, and what turns the direction of text or ends a line of it.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LAYOUT = frozenset("\n\t")


def shown(text: str) -> str:
    """A text on one line, with escapes in place of control characters, as JSON has them.

    >>> print(shown("a\\x1b[2Jb\\nc"))
    a\\u001b[2Jb\\u000ac
    """
    return _CONTROLS.sub(_escape, text)


def controlling(stream: TextIO) -> TextIO:
    """A stream for our own control sequences: nothing that comes from outside may go to it."""
    return cast(TextIO, _Uncontrolled(stream)) if isinstance(stream, _Shown) else stream


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


class _Shown(io.TextIOWrapper):
    """Shows control characters, but for ends of lines and tabs."""

    def write(self, text: str) -> int:
        """As a stream's."""
        super().write(_CONTROLS.sub(_escape_but_layout, text))
        return len(text)


class _Uncontrolled:
    """Writes to a stream as it is."""

    def __init__(self, stream: _Shown):
        self._stream = stream

    def write(self, text: str) -> int:
        return io.TextIOWrapper.write(self._stream, text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _escape_but_layout(match: re.Match[str]) -> str:
    return match[0] if match[0] in _LAYOUT else _escape(match)


def _stream(number: int, before: TextIO | None) -> io.TextIOWrapper:
    raw = _Outlasting(number)
    return _Shown(
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
