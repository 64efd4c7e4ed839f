"""Why a run failed, in one line: what a worker raised comes as the text of several tracebacks."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import tempfile
import traceback

from pipeline.output.disk import disk_is_full
from pipeline.terminal.errors import told
from pipeline.terminal.streams import shown
from transforms.errors import noted, one_line
from transforms.storage.secrets import masked

_STEP = re.compile(r" ?\[while running '([^']*)'\]")
_FRAME = re.compile(r'^  File ".*", line \d+, in .*$', re.MULTILINE)
_NAME = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit))(?:: ?|$)", re.ASCII)
_NUMBER = re.compile(r"^\w+: \[Errno \d+\] ")
_PATH = re.compile(r"^(.*): '(.*)'$")
_OURS = ("transforms.", "pipeline.", "runners.")

# What to do, where that is known.
_FULL = "no space left where --output (or the temporary directory) lies; free some"
_REMEDIES = {
    errno.EFBIG: "a file would be larger than this process may write (see ulimit -f)",
    errno.EACCES: "may this user write there?",
    errno.EPERM: "may this user write there?",
    errno.EROFS: "may this user write there?",
    errno.ENOENT: "was it removed while the run was at work?",
    errno.EMFILE: "allow more open files (see ulimit -n)",
    errno.ENFILE: "allow more open files",
}


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why it failed.

    Attributes:
      text: one line, and what to do where that is known.
      is_known: whether a traceback tells nothing more.
    """

    text: str
    is_known: bool


def cause(error: BaseException) -> Cause:
    """The cause, also of what Beam or another runner has made of a worker's exception.

    >>> cause(OSError("[Errno 28] No space left on device [while running 'Commit']")).text
    'no space left where --output (or the temporary directory) lies; free some'
    """
    if disk_is_full(f"{error} {error.__cause__}"):
        return Cause(_FULL, True)
    text = f"{type(error).__module__}.{type(error).__name__}: {error}"
    steps = list(_STEP.finditer(text))
    if steps:
        text = text[: steps[-1].start()]
    noted_in = "\n".join([text, *getattr(error, "__notes__", [])])
    text, is_ours = _without_names(_last_message(text))
    message = noted(noted_in).get(text)
    text = one_line(Exception(told(message) if message else text))
    for number, remedy in _REMEDIES.items():
        if os.strerror(number) in text:
            text = _PATH.sub(r"\2: \1", _NUMBER.sub("", text))
            return Cause(f"{text}: {remedy}", True)
    return Cause(text + (f" (in {steps[-1][1]})" if steps else ""), is_ours)


def keep_traceback(error: BaseException) -> str | None:
    """Writes the traceback to a new file; returns where, None where there is no room."""
    lines = masked("".join(traceback.format_exception(error))).split("\n")
    told = "\n".join(map(shown, lines))  # whoever reads it does so in a terminal
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="beam-image-features-",
            suffix=".txt",
            delete=False,
            encoding="utf-8",
            errors="backslashreplace",
        ) as file:
            file.write(told)
    except OSError:
        return None
    return file.name


def _last_message(text: str) -> str:
    """What stands behind the last frame of the last traceback, with the exception's name."""
    frames = list(_FRAME.finditer(text))
    if not frames:
        return text
    lines = text[frames[-1].end() :].lstrip("\n").split("\n")
    while len(lines) > 1 and lines[0].startswith("    "):  # the source of the frame
        del lines[0]
    return "\n".join(lines)


def _without_names(text: str) -> tuple[str, bool]:
    """The message with the name of the innermost exception alone, and whether that is of ours.

    Ours need no name: their messages are for people.
    """
    name = ""
    while match := _NAME.match(text):
        name, text = match[1], text[match.end() :]
    is_ours = name.startswith(_OURS)
    short = name.rpartition(".")[2]
    if is_ours or not short:
        return text, is_ours
    return f"{short}: {text}" if text.strip() else short, False
