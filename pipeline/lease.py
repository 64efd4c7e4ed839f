"""The lease on an output directory: one run at a time works on it.

`_lease.json` says which run, on which host, and when it was last alive. A lease is dead when its
process is gone (seen on the same machine) or when it was not renewed for a minute; it is then
taken over. A run that lost its lease, because its machine slept or was cut off, stops, and its
workers may not commit: they look before each part.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator

from pipeline.output import LEASE_FILE, Output
from transforms import storage
from transforms.errors import UserError, one_line

RENEW_SECONDS = 10.0
DEAD_AFTER_SECONDS = 60.0


class LeaseLostError(RuntimeError):
    """Another run has taken the output over: this one may commit nothing more."""


@dataclasses.dataclass(frozen=True)
class Lease:
    """Who works on an output directory.

    Attributes:
      run_id: of the run.
      host, pid: of its launcher.
      machine: the kernel's boot and the process namespace that the pid belongs to.
      process_started: when that process began, in the kernel's clock ticks; tells it from a later
        one with the same pid; None where it cannot be seen.
      since, renewed: in seconds since the epoch.
    """

    run_id: str
    host: str
    pid: int
    machine: str
    process_started: int | None
    since: float
    renewed: float

    @property
    def who(self) -> str:
        """The run in words."""
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since))
        return f"run {self.run_id} on {self.host} (process {self.pid}, since {since})"

    def is_live(self) -> bool:
        """Whether the run is still at work, as far as can be seen from here."""
        if self.machine and self.machine == _machine():
            return _process_started(self.pid) == self.process_started
        return time.time() - self.renewed < DEAD_AFTER_SECONDS


def read(output: Output) -> Lease | None:
    """The lease on the output, live or dead; None if there is none."""
    return _read(output.path(LEASE_FILE))


def refuse_if_held(output: Output) -> None:
    """Tells early, before anything is loaded, that another run is at work.

    Raises:
      UserError: who holds the lease.
    """
    lease = read(output)
    if lease is not None and lease.is_live():
        raise UserError(
            f"--output {output.directory}: {lease.who} is at work there; wait for it or stop it. "
            f"If it is dead, its lease ends {DEAD_AFTER_SECONDS:.0f} s after it was last renewed"
        )


def check_held(path: str, run_id: str) -> None:
    """Called on workers before each commit.

    Args:
      path: of the `_lease.json`.
      run_id: of the run that the worker belongs to.

    Raises:
      LeaseLostError: the lease is not that run's any more.
    """
    lease = _read(path)
    if lease is None or lease.run_id != run_id:
        who = "has ended" if lease is None else f"lost the output to {lease.who}"
        raise LeaseLostError(f"run {run_id} {who}; this part is not committed")


@contextlib.contextmanager
def held(output: Output, run_id: str) -> Iterator[Lease | None]:
    """Holds the lease within the body, renewing it; gives the dead lease that it took over, if any.

    Raises:
      UserError: another run holds it, or the directory cannot be written.
    """
    path = output.path(LEASE_FILE)
    try:
        with _one_at_a_time(output.directory):
            refuse_if_held(output)
            before = read(output)
            mine = Lease(
                run_id,
                socket.gethostname(),
                os.getpid(),
                _machine(),
                _process_started(os.getpid()),
                time.time(),
                time.time(),
            )
            _write(path, mine)
        if not storage.is_local(path):
            _settle(path, mine)
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"--output {output.directory}: not writable: {one_line(error)}") from error
    stop = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, mine, stop), name="lease", daemon=True)
    renewing.start()
    try:
        yield before
    finally:
        stop.set()
        renewing.join()
        with contextlib.suppress(OSError, ValueError):
            lease = _read(path)
            if lease is not None and lease.run_id == run_id:
                storage.delete([path])


@contextlib.contextmanager
def _one_at_a_time(directory: str) -> Iterator[None]:
    """Two launchers on this machine never look at the lease and write it at the same time."""
    if not storage.is_local(directory):
        yield
        return
    os.makedirs(directory, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a network filesystem may not know locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _settle(path: str, mine: Lease) -> None:
    """Where files cannot be locked the last writer holds the lease; the others see it here."""
    time.sleep(2.0)
    lease = _read(path)
    if lease is None or lease.run_id != mine.run_id:
        who = "another run" if lease is None else lease.who
        raise UserError(f"--output {path.rsplit('/', 1)[0]}: {who} took it at the same moment")


def _renew(path: str, lease: Lease, stop: threading.Event) -> None:
    while not stop.wait(RENEW_SECONDS):
        try:
            check_held(path, lease.run_id)
            _write(path, dataclasses.replace(lease, renewed=time.time()))
        except LeaseLostError as error:
            print(f"failed: {error}; stopping", file=sys.stderr, flush=True)
            os._exit(1)
        except (OSError, ValueError):
            continue  # a disk that is full or away for a while is no reason to stop here


def _read(path: str) -> Lease | None:
    try:
        with storage.open_input(path) as file:
            return Lease(**json.loads(file.read()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: is damaged ({error}); delete it if no run is at work") from error
    except OSError:
        if storage.exists(path):
            raise
        return None


def _write(path: str, lease: Lease) -> None:
    storage.write_text(path, json.dumps(dataclasses.asdict(lease)) + "\n")


def _machine() -> str:
    """Where a pid means the same process; "" where that cannot be known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process_started(pid: int) -> int | None:
    """Start time of a process (field 22 of /proc/PID/stat), or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
