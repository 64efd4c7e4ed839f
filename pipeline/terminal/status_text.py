"""The state of an output, for people and for programs."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from pipeline.output.observer import Run
from pipeline.output.run_record import iso
from pipeline.output.state import State, Status
from pipeline.terminal.streams import shown
from pipeline.terminal.words import ago, count, duration

_WORDS: dict[State, str] = {
    "running": "running",
    "publishing": "publishing: what was computed replaces what was there",
    "interrupted": "interrupted: run the same command again to continue",
    "finished": "finished",
}


def status_json(status: Status) -> dict[str, Any]:
    """One flat object: what is told of the run lies beside the rest, null where there is none."""
    told = dataclasses.asdict(status)
    live = told.pop("live")
    if status.lease:
        told["lease"] |= {
            "live": live,
            "since": iso(status.lease.since),
            "renewed": iso(status.lease.renewed),
        }
    run = told.pop("run") or dict.fromkeys(field.name for field in dataclasses.fields(Run))
    return told | run


def status_lines(status: Status) -> list[str]:
    """The lines for people."""
    lines = [("output", status.output), ("state", _state(status))]
    if status.continue_with:
        lines.append(("", status.continue_with))
    lines.append(("lease", _lease(status)))
    if status.run:
        lines += _run_lines(status, status.run)
    if status.last_commit:
        since = ago(datetime.datetime.fromisoformat(status.last_commit).timestamp())
        lines.append(("last commit", f"{status.last_commit}, {since}"))
    contents = [
        count(status.parts, "part"),
        count(status.rows, "row"),
        _errors(status.errors, "", status.errors_by_type),
    ]
    lines.append(("contents", ", ".join(contents)))
    size = f"{status.disk_bytes / 1e6:,.2f} MB in {count(status.files, 'file')}"
    lines.append(("disk used", size))
    lines += [("unreadable", text) for text in status.unreadable]
    return [f"{name:12} {shown(text)}" for name, text in lines]


def _state(status: Status) -> str:
    words, run = _WORDS[status.state], status.run
    if status.state == "running" and run is None:
        return f"{words}: planning, finishing or compacting"
    if status.state == "running" and run and run.done == run.total:
        return f"{words}: all images are done; checking and publishing"
    if status.state == "finished" and run and not run.succeeded:
        return f"{words}, with more errors than --max_error_rate allows: nothing was published"
    return words


def _lease(status: Status) -> str:
    if status.lease is None:
        return "none"
    renewed = ago(status.lease.renewed)
    return f"{'live' if status.live else 'dead'}: {status.lease.who}, renewed {renewed}"


def _run_lines(status: Status, run: Run) -> list[tuple[str, str]]:
    share = f" ({run.done / run.total:.1%})" if run.total else ""
    images = f"{run.done:,} of {run.total:,} done{share}, {run.done_before:,} before this run"
    rate = "not known yet"
    if run.images_per_second:
        rate = f"{run.images_per_second:,.1f} images/s"
    if status.seconds_left:
        rate += f", about {duration(status.seconds_left)} left"
    ended = f", ended {run.ended}" if run.ended else ""
    lines = [("run", f"{run.run_id}, started {run.started}{ended}"), ("images", images)]
    if run.run_errors_by_type is not None:
        number = sum(run.run_errors_by_type.values())
        lines.append(("errors", _errors(number, " of this run", run.run_errors_by_type)))
    return [*lines, ("rate", rate)]


def _errors(number: int, whose: str, types: dict[str, int]) -> str:
    """How many there are, and of which types.

    >>> _errors(1203, "", {"CorruptImageError": 1200, "NotAnImageError": 3})
    '1,203 errors: 1,200 CorruptImageError, 3 NotAnImageError'
    """
    listed = ", ".join(f"{many:,} {name}" for name, many in types.items())
    return count(number, "error") + whose + (f": {listed}" if listed else "")
