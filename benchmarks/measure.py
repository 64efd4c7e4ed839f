"""Runs a command and measures it with all its descendants: wall time, CPU time, memory, output.

Linux only: memory is the proportional set size, in which pages that processes share count once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Sequence

import psutil

POLL_SECONDS = 0.05
# Looking at the memory of a tree of processes costs them and us tens of milliseconds.
SAMPLE_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one run of a command cost.

    Attributes:
      wall_seconds: from the start of the process to its end.
      cpu_seconds: user and system time, descendants included. Of a descendant that its parent
        never waits for (Ray's daemons), what it had used when last seen, up to a second before.
      peak_mib: the largest sum of proportional set sizes that was seen, one look a second.
      first_output_seconds: from the start until a Parquet file held data; None if none did.
      stdout: what the command printed.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    first_output_seconds: float | None
    stdout: str


def measure(
    command: Sequence[str],
    output: str | os.PathLike | None = None,
    environment: dict[str, str] | None = None,
    limit_seconds: float = 3600.0,
) -> Measurement:
    """Runs a command to its end.

    Args:
      command: program and arguments.
      output: directory in which a Parquet file is waited for.
      environment: variables in addition to this process's.
      limit_seconds: after which the command is killed.

    Raises:
      RuntimeError: the command failed or was killed; with the end of what it printed.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        child = subprocess.Popen(
            command, stdout=out, stderr=err, env=os.environ | (environment or {})
        )
        tree = _Tree(child.pid)
        first_output, next_sample = None, 0.0
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            elapsed = time.perf_counter() - started
            if first_output is None and output is not None and _has_data(output):
                first_output = elapsed
            if pid:
                break
            if elapsed >= limit_seconds:
                child.kill()
            if elapsed >= next_sample:
                tree.sample()
                next_sample = elapsed + SAMPLE_SECONDS
            time.sleep(POLL_SECONDS)
        child.returncode = os.waitstatus_to_exitcode(status)
        tree.end()
        if child.returncode:
            err.seek(0)
            raise RuntimeError(
                f"exit code {child.returncode}: {' '.join(command)}\n{err.read()[-4000:]}"
            )
        out.seek(0)
        return Measurement(
            wall_seconds=elapsed,
            cpu_seconds=max(usage.ru_utime + usage.ru_stime, tree.cpu_seconds),
            peak_mib=tree.peak_bytes / 2**20,
            first_output_seconds=first_output,
            stdout=out.read(),
        )


class _Tree:
    """A process and all the descendants that were ever seen, adopted ones included."""

    def __init__(self, pid: int):
        self._root = psutil.Process(pid)
        self._cpu: dict[psutil.Process, float] = {self._root: 0.0}
        self.peak_bytes = 0

    @property
    def cpu_seconds(self) -> float:
        """CPU time when last seen, summed over all."""
        return sum(self._cpu.values())

    def sample(self) -> None:
        for process in list(self._cpu):
            with contextlib.suppress(psutil.Error):
                for descendant in process.children(recursive=process == self._root):
                    self._cpu.setdefault(descendant, 0.0)
        resident = 0
        for process in self._cpu:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._cpu[process] = times.user + times.system
                resident += process.memory_full_info().pss
        self.peak_bytes = max(self.peak_bytes, resident)

    def end(self) -> None:
        """Ends what outlived the root."""
        others = [process for process in self._cpu if process != self._root]
        for process in others:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(others, timeout=10)


def _has_data(output: str | os.PathLike) -> bool:
    """Whether there is a Parquet file with more than the magic number, but for bookkeeping."""
    for path in pathlib.Path(output).rglob("*.parquet"):
        inner = path.relative_to(output).parts
        with contextlib.suppress(OSError):
            if not any(part.startswith("_") for part in inner) and path.stat().st_size > 4:
                return True
    return False
