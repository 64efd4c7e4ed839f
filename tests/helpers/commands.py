"""The command line, as a person runs it: in a process of its own, with a limit to each wait."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

ROOT = pathlib.Path(__file__).parents[2]

# What takes this long hangs. A busy machine may take a minute for what takes two seconds.
PATIENCE_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


# Becomes the command that it is given, with Ctrl-C and SIGTERM as at a terminal: a script's
# background job ignores SIGINT, and so does whatever it starts. Not a `preexec_fn`: with that,
# subprocess forks instead of using vfork, and gRPC's fork handlers run in the tests' process.
_WITH_DEFAULT_SIGNALS = (
    "import os, signal, sys;"
    "[signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)];"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


def start(command: Sequence[object], **popen: object) -> subprocess.Popen[str]:
    """Starts a command in the project's directory."""
    first = [sys.executable, "-I", "-S", "-c", _WITH_DEFAULT_SIGNALS]
    return subprocess.Popen([*first, *map(str, command)], **{"cwd": ROOT, "text": True} | popen)


@contextlib.contextmanager
def within_patience(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """Ends the processes if the body takes too long, and with them its waits for their output."""

    def end() -> None:
        for process in processes:
            process.kill()

    watch = threading.Timer(PATIENCE_SECONDS, end)
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def run(command: Sequence[object], **popen: object) -> Finished:
    """Runs a command to its end, and keeps what it prints."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
    with start(command, **pipes) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
        except BaseException:
            process.kill()
            raise
    return Finished(process.returncode, out, err)


def run_command(*arguments: object, **popen: object) -> Finished:
    """Runs `python -m pipeline.run` as a person would, in a process of its own."""
    return run([sys.executable, "-m", "pipeline.run", *arguments], **popen)


def run_python(code: str, *arguments: object, **popen: object) -> Finished:
    """Runs a few lines of Python in a process of their own."""
    return run([sys.executable, "-c", code, *arguments], **popen)
