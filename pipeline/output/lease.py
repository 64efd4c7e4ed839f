"""The lease on an output directory: one run at a time works on it.

`_lease.json` says which run, on which host, and when it was last alive. A lease is dead when its
process is gone (seen on the same machine) or when it was seen not to be renewed for a minute: by
the clock of who looks, as those of two machines may differ by hours. It is then taken over. A run
that lost its lease, because its machine slept or was cut off, stops, and neither its workers nor
itself change anything more: they look before each part, and before each step of a publish.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from pipeline import exit_codes
from pipeline.output.directory import Output
from pipeline.output.disk import disk_is_full
from pipeline.output.holder import (
    DEAD_AFTER_SECONDS,
    Lease,
    damaged_lease,
    parse_lease,
    process_started,
    this_machine,
)
from transforms import storage
from transforms.dataset.layout import LEASE_FILE
from transforms.errors import UserError, one_line
from transforms.machine import native_stderr
from transforms.storage import conditional_writes
from transforms.storage.conditional_writes import StoredText, write_if_unchanged

_MOST_BYTES = 2**16

RENEW_SECONDS = 10.0
_LOOK_SECONDS = 1.0


class OutputBusyError(UserError):
    """Another run is at work on the output."""

    exit_code = exit_codes.BUSY


class LeaseLostError(RuntimeError):
    """Another run has taken the output over: this one may commit nothing more."""


def read_lease(output: Output) -> Lease | None:
    """The lease on the output, live or dead; None if there is none."""
    path = output.path(LEASE_FILE)
    try:
        return parse_lease(path, conditional_writes.read_text(path, _MOST_BYTES))
    except storage.UnusableFileError as error:
        raise damaged_lease(path, error) from error


def refuse_if_held(output: Output) -> StoredText | None:
    """Tells early, before anything is loaded, that another run is at work.

    A lease of another machine is watched for as long as it takes to see that it is not renewed.

    Returns:
      a lease that is dead, for `held`; None if there is none.

    Raises:
      OutputBusyError: who holds the lease.
    """
    path = output.path(LEASE_FILE)
    try:
        stored = conditional_writes.read_text(path, _MOST_BYTES)
        found = parse_lease(path, stored)
        if stored is None or found is None:
            return None
        if found.is_of_this_machine:
            if found.seems_live():
                raise _busy(output, found)
            return stored
        return _watch(output, stored, found)
    except OSError as error:
        raise UserError(
            f"--output {output.directory}: cannot be read: {one_line(error)}"
        ) from error


def _watch(output: Output, stored: StoredText, found: Lease) -> StoredText | None:
    path = output.path(LEASE_FILE)
    print(
        f"{output.directory}: {found.who} has not given it back; looking for up to "
        f"{DEAD_AFTER_SECONDS:.0f} s whether it is alive",
        file=sys.stderr,
        flush=True,
    )
    pause = threading.Event()
    began = time.monotonic()
    while time.monotonic() - began < DEAD_AFTER_SECONDS:
        pause.wait(_LOOK_SECONDS)
        now = conditional_writes.read_text_surely(path, _MOST_BYTES)
        if now is None:
            return None
        if now.text != stored.text:
            raise _busy(output, parse_lease(path, now) or found)
    return stored


def _busy(output: Output, lease: Lease) -> OutputBusyError:
    return OutputBusyError(
        f"--output {output.directory}: {lease.who} is at work there; wait for it or stop it"
    )


def look(output: Output, run_id: str) -> Callable[[], None]:
    """What raises `LeaseLostError` if the output is another run's by now; picklable."""
    return functools.partial(check_held, output.path(LEASE_FILE), run_id)


def check_held(path: str, run_id: str) -> None:
    """Called on workers before each commit, and by the launcher before each step of a publish.

    Args:
      path: of the `_lease.json`.
      run_id: of the run that the worker belongs to.

    Raises:
      LeaseLostError: the lease is not that run's any more.
    """
    _read_ours(path, run_id)


def _read_ours(path: str, run_id: str) -> StoredText:
    stored = conditional_writes.read_text_surely(path, _MOST_BYTES)
    lease = parse_lease(path, stored)
    if stored is None or lease is None or lease.run_id != run_id:
        who = "has ended" if lease is None else f"lost the output to {lease.who}"
        raise LeaseLostError(f"run {run_id} {who}; it changes nothing more there")
    return stored


@contextlib.contextmanager
def held(output: Output, run_id: str, dead: StoredText | None = None) -> Iterator[Lease | None]:
    """Holds the lease within the body, renewing it; gives the dead lease that it took over, if any.

    Args:
      output: the directory.
      run_id: who holds it.
      dead: a lease that `refuse_if_held` has seen to be dead.

    Raises:
      OutputBusyError: another run holds it.
      UserError: the directory cannot be written.
    """
    path = output.path(LEASE_FILE)
    try:
        seen = conditional_writes.read_text(path, _MOST_BYTES)
        if seen is not None and seen != dead:
            seen = refuse_if_held(output)
        before = parse_lease(path, seen)
        mine = Lease(
            run_id,
            socket.gethostname(),
            os.getpid(),
            this_machine(),
            process_started(os.getpid()),
            time.time(),
            time.time(),
        )
        stored = write_if_unchanged(path, _text(mine), seen)
        if stored is None:
            refuse_if_held(output)
            raise OutputBusyError(
                f"--output {output.directory}: another run took it at the same moment"
            )
    except (OSError, ValueError) as error:
        if isinstance(error, UserError) or disk_is_full(str(error)):
            raise
        raise UserError(f"--output {output.directory}: not writable: {one_line(error)}") from error
    stop = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(path, mine, stored, stop), name="lease", daemon=True
    )
    renewing.start()
    try:
        yield before
    finally:
        stop.set()
        renewing.join()
        with contextlib.suppress(OSError, ValueError, LeaseLostError):
            conditional_writes.delete_if_unchanged(path, _read_ours(path, run_id))


def _renew(path: str, lease: Lease, stored: StoredText, stop: threading.Event) -> None:
    while not stop.wait(RENEW_SECONDS):
        try:
            now = dataclasses.replace(lease, renewed=time.time())
            written = write_if_unchanged(path, _text(now), stored)
            stored = written or _read_ours(path, lease.run_id)
        except LeaseLostError as error:
            native_stderr.give_back()
            print(f"failed: {error}; stopping", file=sys.stderr, flush=True)
            os._exit(1)
        except (OSError, ValueError):
            continue  # a disk that is full or away for a while is no reason to stop here


def _text(lease: Lease) -> str:
    return json.dumps(dataclasses.asdict(lease)) + "\n"
