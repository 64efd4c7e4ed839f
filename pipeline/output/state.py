"""What an output directory says of the run at work in it, or of the last one, on any runner."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable
from typing import Literal

from pipeline.output import run_record
from pipeline.output.lease import Lease
from pipeline.output.observer import (
    PLANS,
    STAGED,
    Observation,
    Run,
    UnfinishedRun,
    errors_path,
    images_per_second,
)
from pipeline.output.run_record import iso
from transforms.dataset.layout import JOURNAL_FILE

State = Literal["running", "publishing", "interrupted", "finished"]


@dataclasses.dataclass(frozen=True)
class Status:
    """What is told of an output.

    Attributes:
      output: the directory.
      state: "publishing" brings a decided change to its end; "interrupted" ended before it was
        done, and `continue_with` is the command that continues it, if it is known.
      lease, live: who holds the output, and whether that run is at work.
      run: the run at work, else the last one; None before a run has written down its plan.
      seconds_left: at the run's rate so far.
      last_commit: when the newest part was written; of a run at work, the newest of its own.
      parts, rows, errors, errors_by_type: of the output as who lists it sees it.
      disk_bytes, files: all below the directory.
      unreadable: a line for each damaged file; what it holds is not counted.
    """

    output: str
    state: State
    continue_with: str | None
    lease: Lease | None
    live: bool
    run: Run | None
    seconds_left: float | None
    last_commit: str | None
    parts: int
    rows: int
    errors: int
    errors_by_type: dict[str, int]
    disk_bytes: int
    files: int
    unreadable: list[str]

    @property
    def at_work(self) -> bool:
        """Whether a run is."""
        return self.state in ("running", "publishing")


def tell(found: Observation) -> Status:
    """What it means."""
    held, files = found.lease, found.files
    live = held is not None and held.seems_live()
    state = _state(found, live)
    plan = None if state == "finished" else _plan_to_tell(found, live)
    shards = plan.shards if plan else frozenset()
    mine = {part.shard: path for path, part in found.parts.items() if part.shard in shards}
    run = None if live and state != "finished" else found.over
    continue_with = seconds_left = None
    if plan:
        run = _progress(plan, found, list(mine.values()))
        if state == "publishing":  # all is computed; parts on the move may not be seen
            run = dataclasses.replace(run, done=run.total)
        elif state == "running" and run.images_per_second:
            seconds_left = round((run.total - run.done) / run.images_per_second, 1)
        elif state == "interrupted":
            continue_with = run_record.command_line(plan.arguments)
    commits = [files[path].modified for path in (mine.values() if plan and live else found.parts)]
    seen = [path for path in found.parts if "/" not in path]
    return Status(
        output=found.output,
        state=state,
        continue_with=continue_with,
        lease=held,
        live=live,
        run=run,
        seconds_left=seconds_left,
        last_commit=iso(max(commits)) if commits else None,
        parts=len(seen),
        rows=sum(found.parts[path].rows for path in seen),
        errors=sum(found.parts[path].errors for path in seen),
        errors_by_type=_count_errors(found, seen),
        disk_bytes=sum(file.size for file in files.values()),
        files=len(files),
        unreadable=found.unreadable,
    )


def _state(found: Observation, live: bool) -> State:
    journal = JOURNAL_FILE in found.files
    over = found.over
    # What a run has staged that failed its checks waits there, and is no sign that it is at work.
    unfinished = (PLANS, STAGED) if over is None or over.succeeded else (PLANS,)
    left = journal or any(path.startswith(unfinished) for path in found.files)
    run_id = over and over.run_id
    if run_id and (found.lease.run_id == run_id if found.lease else not left):
        return "finished"
    if live:
        return "publishing" if journal else "running"
    return "interrupted"


def _plan_to_tell(found: Observation, live: bool) -> UnfinishedRun | None:
    """That of the run that holds the output; of dead runs, else, the newest."""
    plans = sorted(found.plans, key=lambda plan: plan.started)
    held = [plan for plan in plans if found.lease and plan.run_id == found.lease.run_id]
    told = held if held or live else plans
    return told[-1] if told else None


def _progress(plan: UnfinishedRun, found: Observation, paths: list[str]) -> Run:
    """How far a run is with its parts at the given paths."""
    done = sum(found.parts[path].rows + found.parts[path].errors for path in paths)
    seconds = max((found.files[path].modified for path in paths), default=0.0) - plan.written
    return Run(
        run_id=plan.run_id,
        command=run_record.command_line(plan.arguments),
        started=plan.started,
        ended=None,
        succeeded=None,
        total=plan.matched,
        done=plan.matched - plan.todo + done,
        done_before=plan.matched - plan.todo,
        images_per_second=images_per_second(done, seconds),
        run_errors_by_type=_count_errors(found, paths),
    )


def _count_errors(found: Observation, paths: Iterable[str]) -> dict[str, int]:
    """Error rows by type, the most frequent first, of the parts at the given paths."""
    total: collections.Counter[str] = collections.Counter()
    for path in paths:
        total.update(found.error_types.get(errors_path(path, found.parts[path]), {}))
    return dict(total.most_common())
