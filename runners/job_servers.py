"""The process that Beam starts here to hand jobs to Flink, Spark or Prism: it outlives Ctrl-C.

A terminal sends Ctrl-C to all processes of a command, and Beam has a handler of its own, which ends
this process first. It is needed once more: to cancel the job.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from apache_beam.utils import subprocess_server


class _InGroupsOfTheirOwn:
    """`subprocess`, but for what it starts."""

    Popen = staticmethod(functools.partial(subprocess.Popen, process_group=0))

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


@contextlib.contextmanager
def outlive_ctrl_c() -> Iterator[None]:
    """For the body that submits a job: keeps what it starts from Ctrl-C, and our signal handler."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    # It has no parameter for that.
    subprocess_server.subprocess = _InGroupsOfTheirOwn()  # type: ignore[assignment]
    try:
        yield
    finally:
        subprocess_server.subprocess = subprocess
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
