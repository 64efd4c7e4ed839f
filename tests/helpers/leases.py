"""Leases of other machines' runs, and runs that want one at the same moment."""

from __future__ import annotations

import os

from pipeline.output import lease
from pipeline.output.directory import Output
from pipeline.output.lease import Lease
from transforms.errors import UserError


def elsewhere(renewed: float) -> Lease:
    """The lease of a run on another machine that has a process of the same number."""
    return Lease("far", "other-host", os.getpid(), "another boot", 1, renewed - 3600, renewed)


def race(directory: str, runners: int, rounds: int) -> None:
    """Prints, round by round, how it went for processes that want the lease at the same moment."""
    for _ in range(rounds):
        print(_race(directory, runners), flush=True)


def _race(directory: str, runners: int) -> str:
    """Processes that all wait on one pipe, and then all want the lease."""
    start, go = os.pipe()
    answers, answer = os.pipe()
    end, leave = os.pipe()
    for runner in range(runners):
        if os.fork() == 0:
            os.close(go)
            os.close(leave)
            os.read(start, 1)
            try:
                with lease.held(Output(directory), f"runner {runner}"):
                    os.write(answer, b"held    ")
                    os.read(end, 1)
            except UserError:
                os.write(answer, b"refused ")
            os._exit(0)
    os.close(go)
    results = "".join(os.read(answers, 8).decode() for _ in range(runners))
    os.close(leave)
    for _ in range(runners):
        os.wait()
    return results
