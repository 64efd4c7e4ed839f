"""The process that Beam starts here to hand jobs to Flink, Spark or Prism: it outlives Ctrl-C.

A terminal sends Ctrl-C to all processes of a command, and Beam has a handler of its own, which ends
this process first. It is needed once more: to cancel the job. It ends with the launcher.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from apache_beam.utils import subprocess_server

# Becomes the command that it is given: in a process group of its own, and, on Linux, ended when
# the thread that has started it ends. Not a `preexec_fn`, which is not safe among threads.
_APART = (
    "import ctypes, os, sys; os.setpgid(0, 0); parent = int(sys.argv[1]);"
    "prctl = getattr(ctypes.CDLL(None), 'prctl', None); prctl and prctl(1, 15);"
    "os.getppid() == parent and os.execvp(sys.argv[2], sys.argv[2:])"
)


class _Apart:
    """`subprocess`, but for what it starts."""

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, command: Sequence[str], **how: Any) -> subprocess.Popen:  # noqa: N802
        """Starts a process that Ctrl-C does not reach."""
        first = [sys.executable, "-I", "-S", "-c", _APART, str(os.getpid())]
        return subprocess.Popen([*first, *command], **how)


@contextlib.contextmanager
def outlive_ctrl_c() -> Iterator[None]:
    """For the body that submits a job: keeps what it starts from Ctrl-C, and our signal handler."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    subprocess_server.subprocess = _Apart()  # type: ignore[assignment]  # it has no parameter
    try:
        yield
    finally:
        subprocess_server.subprocess = subprocess
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
