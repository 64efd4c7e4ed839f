"""Who works on an output, as `_lease.json` has it, and whether it is still at work."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

from transforms import storage
from transforms.dataset.stored_json import (
    check_kinds,
    either,
    is_count,
    is_line,
    is_null,
    is_number,
    is_text,
    parse_object,
)
from transforms.errors import UserError
from transforms.storage.conditional_writes import StoredText

# A run renews its lease six times as often.
DEAD_AFTER_SECONDS = 60.0


def _is_time(found: Any) -> bool:
    """Seconds since the epoch, in the years 1 to 9999: no calendar here goes further."""
    return is_number(found) and -62135596800 <= found < 253402300800


_KINDS = {
    "run_id": is_line,
    "host": is_line,
    "pid": lambda found: is_count(found) and found > 0,
    "machine": is_text,
    "process_started": either(is_null, is_count),
    "since": _is_time,
    "renewed": _is_time,
}


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

    @property
    def is_of_this_machine(self) -> bool:
        """Whether its process can be seen from here."""
        return bool(self.machine) and self.machine == this_machine()

    def seems_live(self) -> bool:
        """Whether the run is still at work, as far as one look can tell.

        Of a run on another machine it goes by that machine's clock: good enough to be told, not to
        be decided by. One that was renewed in the future is of a clock that says nothing.
        """
        if self.is_of_this_machine:
            began = process_started(self.pid)
            return began is not None and began == self.process_started
        return abs(time.time() - self.renewed) < DEAD_AFTER_SECONDS


def parse_lease(path: str, stored: StoredText | None) -> Lease | None:
    """What a `_lease.json` says; None if there is none.

    Raises:
      UserError: it is damaged.
    """
    if stored is None:
        return None
    try:
        found = parse_object(stored.text)
        check_kinds(found, _KINDS)
        return Lease(**{name: found[name] for name in _KINDS})
    except ValueError as error:
        raise damaged_lease(path, error) from error


def damaged_lease(path: str, error: Exception) -> UserError:
    """What is told of one that says nothing."""
    why = error.problem if isinstance(error, storage.UnusableFileError) else error
    return UserError(f"{path}: is damaged ({why}); delete it if no run is at work")


def this_machine() -> str:
    """Where a pid means the same process; "" where that cannot be known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_started(pid: int) -> int | None:
    """Start time of a process (field 22 of /proc/PID/stat), or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
