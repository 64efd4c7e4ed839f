"""What is told of a run when it is over: `_run.json` and the five lines on the terminal."""

from __future__ import annotations

import collections
import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Sequence
from typing import Any

from pipeline import PROGRAM, __version__
from pipeline.options.values import RunOptions
from pipeline.options.written import written
from pipeline.outcome import Outcome
from pipeline.output import run_record
from pipeline.output.directory import Output
from pipeline.planning.inputs import lost_text
from pipeline.settings import Settings
from pipeline.terminal.errors import told
from pipeline.terminal.words import count
from transforms.batches import StageSeconds
from transforms.dataset.layout import ERRORS_DIRECTORY
from transforms.dataset.part import Part
from transforms.inputs.listing import Listing
from transforms.refs import Unreadable

_STAGES = tuple(field.name for field in dataclasses.fields(StageSeconds))

# What a bundle does one after the other: these add up to its time.
_IN_TURN = {
    "infer": "in the model",
    "wait": "waiting for images to be read and decoded",
    "write": "writing",
}

# A shorter run is mostly first answers and last files.
_SECONDS_FOR_A_RATE = 10.0

# Ids of images whose rows stay as they could not be read: so many in the run's record.
MOST_STALE = 1000


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run whose images are all accounted for.

    Attributes:
      run_id: of the run.
      started: when it began, in seconds since the epoch.
      pipeline_seconds: how long its pipeline ran.
      outcome: what became of what it computed.
      listing: what the inputs hold besides its refs: what was passed over, what cannot be read.
      parts: those that it computed.
      output: with all its parts.
      shown: where the error rows lie that are told of: with what waits to be published, if nothing
        was.
    """

    run_id: str
    started: float
    pipeline_seconds: float
    outcome: Outcome
    listing: Listing
    parts: Sequence[Part]
    output: Output
    shown: Output


def summary(report: dict[str, Any], output: Output, shown: Output) -> list[str]:
    """The five lines at the end, and one for an example of each type of error.

    Args:
      report: the content of `_run.json`.
      output: the directory.
      shown: where the error rows lie that are told of.
    """
    counts = report["counts"]
    types = ", ".join(f"{number:,} {name}" for name, number in report["error_types"].items())
    errors = f"{counts['errors']:,}"
    if counts["errors"]:
        errors += f" ({types}), in {shown.path(ERRORS_DIRECTORY)}"
    return [
        f"images   {counts['matched']:,} matched: {counts['rows_of_this_run']:,} rows and "
        f"{counts['errors_of_this_run']:,} errors now, {counts['done_before']:,} done before",
        f"errors   {errors}",
        *_examples(report),
        *_lost(report),
        *_stale(report),
        *_warned(report),
        f"rate     {_rate(report)}",
        f"time     {_shares(report['seconds'])}",
        f"output   {output.directory}: {count(counts['parts'], 'part')}, "
        f"{count(counts['rows'], 'row')}, "
        f"{report['fingerprint']['vector']}",
    ]


def run_report(options: RunOptions, settings: Settings, run: Finished) -> dict[str, Any]:
    """The content of `_run.json`."""
    ended = time.time()
    stages = {stage: sum(part.seconds.get(stage, 0.0) for part in run.parts) for stage in _STAGES}
    plan, output = run.outcome.plan, run.output
    errors = run.shown.error_examples()
    return {
        "run_id": run.run_id,
        "command": run_record.command_line(options.words),
        "arguments": written(options.words),
        "mode": options.output.mode,
        "succeeded": run.outcome.published,
        "started": run_record.iso(run.started),
        "ended": run_record.iso(ended),
        "counts": {
            "matched": plan.matched,
            "new": plan.new,
            "changed": plan.changed,
            "gone": plan.gone,
            "retried": plan.retried,
            "unchanged": plan.unchanged,
            "kept": plan.kept,
            "stale": len(plan.stale),
            "tried": run.outcome.tried.images,
            "failed": run.outcome.tried.failed,
            "done_before": plan.matched - plan.computes,
            "rows_of_this_run": sum(part.rows for part in run.parts),
            "errors_of_this_run": sum(part.errors for part in run.parts),
            "parts": len(output.parts),
            "rows": output.rows,
            "errors": run.shown.errors,
            "passed_over": run.listing.passed_over.total(),
        },
        "error_types": {name: example.count for name, example in errors.items()},
        "error_examples": {
            name: {"id": example.id, "message": example.message} for name, example in errors.items()
        },
        "warnings": _warnings(output),
        "passed_over": dict(run.listing.passed_over.most_common()),
        "unreadable": [dataclasses.asdict(container) for container in run.listing.unreadable],
        "seconds": {
            "start_up": round(ended - run.started - run.pipeline_seconds, 3),
            "pipeline": round(run.pipeline_seconds, 3),
            **{stage: round(seconds, 3) for stage, seconds in stages.items()},
        },
        "stale": list(plan.stale[:MOST_STALE]),
        "max_error_rate": run.outcome.max_error_rate,
        "versions": _versions(),
        "model_sha256": settings.model_sha256,
        "fingerprint": dict(settings.part_format.fingerprint),
        "parity": settings.parity and dataclasses.asdict(settings.parity),
        "model_checks": [
            {"name": check.name, "status": check.status, "seen": told(check.seen)}
            for check in settings.checks
        ],
    }


def _examples(report: dict[str, Any]) -> list[str]:
    return [
        f"         {name}, such as {example['id']}: {example['message']}"
        for name, example in report["error_examples"].items()
    ]


def _lost(report: dict[str, Any]) -> list[str]:
    unreadable = [Unreadable(**container) for container in report["unreadable"]]
    return [f"lost     {lost_text(unreadable)}"] if unreadable else []


def _stale(report: dict[str, Any]) -> list[str]:
    stale = report["counts"]["stale"]
    if not stale:
        return []
    return [
        f"stale    {count(stale, 'image')} could not be read, such as {report['stale'][0]}: the "
        "rows of before stay, and the next run tries again"
    ]


def _warnings(output: Output) -> dict[str, int]:
    kinds: collections.Counter[str] = collections.Counter()
    for part in output.parts.values():
        kinds.update(part.warnings)
    return dict(kinds.most_common())


def _warned(report: dict[str, Any]) -> list[str]:
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in report["warnings"].items())
    return [f"warned   {kinds}: rows whose ids load_warnings tells"] if kinds else []


def _rate(report: dict[str, Any]) -> str:
    counts, seconds = report["counts"], report["seconds"]
    done = counts["rows_of_this_run"] + counts["errors_of_this_run"]
    took = seconds["pipeline"]
    start_up = f"after {seconds['start_up']:.1f} s to list, load and plan"
    if not done:
        return f"nothing was computed, {start_up}"
    if took < _SECONDS_FOR_A_RATE:
        return f"{count(done, 'image')} in {took:.1f} s, {start_up}; too short a run for a rate"
    return f"{done / took:.1f} images/s: {count(done, 'image')} in {took:.1f} s, {start_up}"


def _shares(seconds: dict[str, float]) -> str:
    """Where the time of the pipeline went, in shares that add up."""
    total = sum(seconds[stage] for stage in _IN_TURN)
    if not total:
        return "nothing was computed"
    return ", ".join(f"{seconds[stage] / total:.0%} {what}" for stage, what in _IN_TURN.items())


def _versions() -> dict[str, str]:
    packages = ["apache-beam", "tensorflow", "pyarrow", "numpy"]
    return {PROGRAM: __version__, "python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }
