"""What is told of a run when it is over: `_run.json` and the five lines on the terminal."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import time
from collections.abc import Sequence
from typing import Any

from pipeline.options.arguments import ImageOptions
from pipeline.output import run_record
from pipeline.output.directory import Output
from pipeline.planning.plan import Plan
from transforms.dataset.layout import ERRORS_DIRECTORY
from transforms.dataset.part import Part
from transforms.inputs.listing import Listing

# Stages by name, and how they are told.
_STAGES = {
    "read": "read",
    "decode": "decode",
    "infer": "infer",
    "write": "write",
    "wait": "model waiting for images",
}


def summary(report: dict[str, Any], output: Output) -> list[str]:
    """The five lines at the end."""
    counts, seconds = report["counts"], report["seconds"]
    wall = seconds["pipeline"] or 1.0
    shares = ", ".join(f"{name} {seconds[stage] / wall:.0%}" for stage, name in _STAGES.items())
    types = ", ".join(f"{count:,} {name}" for name, count in report["error_types"].items())
    errors = f"{counts['errors']:,}"
    if counts["errors"]:
        errors += f" ({types}), in {output.path(ERRORS_DIRECTORY)}"
    done = counts["rows_of_this_run"] + counts["errors_of_this_run"]
    rate = done / seconds["pipeline"] if seconds["pipeline"] else 0.0
    return [
        f"images   {counts['matched']:,} matched: {counts['rows_of_this_run']:,} rows and "
        f"{counts['errors_of_this_run']:,} errors now, {counts['done_before']:,} done before",
        f"errors   {errors}",
        f"rate     {rate:.1f} images/s in {seconds['pipeline']:.1f} s, after "
        f"{seconds['start_up']:.1f} s to list, load and plan",
        f"time     {shares} of the {seconds['pipeline']:.1f} s (threads and workers add up)",
        f"output   {output.directory}: {count(counts['parts'], 'part')}, "
        f"{count(counts['rows'], 'row')}, "
        f"{report['fingerprint']['vector']}",
    ]


def run_report(
    options: ImageOptions,
    argv: list[str],
    run_id: str,
    plan: Plan,
    listing: Listing,
    output: Output,
    now: Sequence[Part],
    started: float,
    pipeline_seconds: float,
    succeeded: bool,
) -> dict[str, Any]:
    """The content of `_run.json`, but for the fingerprint.

    Args:
      options: the command line.
      argv: as it was typed.
      run_id: of this run.
      plan: what there was to do.
      listing: what the inputs hold.
      output: with all its parts.
      now: the parts that this run computed.
      started: when the run began, in seconds since the epoch.
      pipeline_seconds: how long the pipeline ran.
      succeeded: whether no more images failed than `--max_error_rate` allows.
    """
    ended = time.time()
    stages = {stage: sum(part.seconds.get(stage, 0.0) for part in now) for stage in _STAGES}
    return {
        "run_id": run_id,
        "command": run_record.command_line(argv),
        "arguments": run_record.without_secrets(argv),
        "mode": options.mode,
        "succeeded": succeeded,
        "started": iso(started),
        "ended": iso(ended),
        "counts": {
            "matched": plan.matched,
            "new": plan.new,
            "changed": plan.changed,
            "gone": plan.gone,
            "retried": plan.retried,
            "unchanged": plan.unchanged,
            "kept": plan.kept,
            "done_before": plan.matched - plan.computes,
            "rows_of_this_run": sum(part.rows for part in now),
            "errors_of_this_run": sum(part.errors for part in now),
            "parts": len(output.parts),
            "rows": output.rows,
            "errors": output.errors,
            "passed_over": listing.passed_over.total(),
        },
        "error_types": dict(output.error_types().most_common()),
        "passed_over": dict(listing.passed_over.most_common()),
        "seconds": {
            "start_up": round(ended - started - pipeline_seconds, 3),
            "pipeline": round(pipeline_seconds, 3),
            **{stage: round(seconds, 3) for stage, seconds in stages.items()},
        },
        "max_error_rate": options.max_error_rate,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    packages = ["apache-beam", "tensorflow", "pyarrow", "numpy"]
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }


def iso(seconds: float) -> str:
    """A time since the epoch as people and programs read it, UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(
        timespec="seconds"
    )


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "part"), count(2000, "row")
    ('1 part', '2,000 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
