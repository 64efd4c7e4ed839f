"""One run from the options to the exit code: list, plan, run, account for every image."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import datetime
import importlib.metadata
import platform
import sys
import time
import uuid
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.runner import PipelineState

import runners
from pipeline import graph, manifest, settings
from pipeline.options import ImageOptions
from pipeline.progress import Progress
from transforms import match, storage
from transforms.errors import UserError
from transforms.models import ModelSource
from transforms.refs import ImageRef
from transforms.shards import group_into_shards, write_plan

DONE, FAILED, MISTAKE = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """What this run has to do.

    Attributes:
      todo: refs that are not committed yet.
      matched: images that the inputs hold.
      unchanged: of these, already committed in this version.
      changed: already committed in another version; their rows are kept as they are.
    """

    todo: list[ImageRef]
    matched: int
    unchanged: int
    changed: int


class AccountingError(RuntimeError):
    """Images were matched that are neither rows nor error rows. Must never happen."""


def run(options: ImageOptions, argv: list[str]) -> int:
    """Runs the job.

    Returns:
      the exit code: 0, or 1 if more images failed than `--max_error_rate` allows.

    Raises:
      UserError: the options, the inputs or the output directory are wrong; nothing was written.
      Exception: the pipeline failed; what was committed stays, and the same command continues.
    """
    FileSystems.set_options(options)
    started = time.time()
    output = manifest.open_output(storage.absolute(options.output))
    _say("listing the inputs and loading the model")
    listing, source = _list_while_loading(options)
    resolved = settings.resolve(options, source, listing.containers)
    fingerprint = dict(resolved.part_format.fingerprint)
    if options.overwrite:
        manifest.overwrite(output)
    manifest.check_parts(output, fingerprint)
    plan = make_plan(listing.refs, output)
    shards = group_into_shards(plan.todo, options.rows_per_file)
    _say(_describe(plan, len(shards), listing.passed_over))
    pipeline = _new_pipeline(options)
    run_id = uuid.uuid4().hex[:12]
    manifest.start(output, run_id)
    pointers = write_plan(shards, output.path(manifest.PLAN_DIRECTORY), run_id)
    pipeline_started = time.time()
    if pointers:
        with Progress(output, len(plan.todo)):
            graph.build(pipeline, pointers, resolved, output.directory)
            _run_pipeline(pipeline)
    pipeline_seconds = time.time() - pipeline_started
    output.refresh()
    names = {pointer.name for pointer in pointers}
    _check_accounts(output, {pointer.name: pointer.size for pointer in pointers})
    manifest.check_ids_unique(output)
    errors_now = sum(part.errors for part in output.parts.values() if part.shard in names)
    error_rate = errors_now / max(1, len(plan.todo))
    succeeded = error_rate <= options.max_error_rate
    report = _report(
        options, argv, run_id, started, pipeline_seconds, plan, listing, output, names, succeeded
    )
    report["fingerprint"] = fingerprint
    manifest.finish(output, report, succeeded, started)
    with contextlib.suppress(BrokenPipeError):  # all is committed, whoever reads this
        print("\n".join(summary(report, output)), flush=True)
    if not succeeded:
        print(
            f"failed: {error_rate:.0%} of the images are errors, over --max_error_rate "
            f"{options.max_error_rate:g}; all that worked is committed",
            file=sys.stderr,
        )
    return DONE if succeeded else FAILED


def make_plan(refs: list[ImageRef], output: manifest.Output) -> Plan:
    """Leaves out what is committed already: resume and incremental indexing are this one step."""
    committed = output.committed_ids() if output.parts else {}
    todo = [ref for ref in refs if ref.id not in committed]
    changed = sum(committed.get(ref.id, ref.version) != ref.version for ref in refs)
    return Plan(todo, len(refs), len(refs) - len(todo) - changed, changed)


def summary(report: dict[str, Any], output: manifest.Output) -> list[str]:
    """The five lines at the end."""
    counts, seconds = report["counts"], report["seconds"]
    stages = {stage: seconds[stage] for stage in ("read", "decode", "infer", "write")}
    total = sum(stages.values()) or 1.0
    shares = ", ".join(f"{stage} {part / total:.0%}" for stage, part in stages.items())
    types = ", ".join(f"{count:,} {name}" for name, count in report["error_types"].items())
    errors = f"{counts['errors']:,}"
    if counts["errors"]:
        errors += f" ({types}), in {output.path('_errors')}"
    done = counts["rows_of_this_run"] + counts["errors_of_this_run"]
    rate = done / seconds["pipeline"] if seconds["pipeline"] else 0.0
    return [
        f"images   {counts['matched']:,} matched: {counts['rows_of_this_run']:,} rows and "
        f"{counts['errors_of_this_run']:,} errors now, {counts['done_before']:,} done before",
        f"errors   {errors}",
        f"rate     {rate:.1f} images/s in {seconds['pipeline']:.1f} s, after "
        f"{seconds['start_up']:.1f} s to list, load and plan",
        f"time     {shares} (of the threads' time)",
        f"output   {output.directory}: {_count(counts['parts'], 'part')}, "
        f"{_count(counts['rows'], 'row')}, "
        f"{report['fingerprint']['vector']}",
    ]


def _list_while_loading(options: ImageOptions) -> tuple[match.Listing, ModelSource]:
    """Lists the inputs while the model is staged, TensorFlow imported and the model loaded."""
    pool = concurrent.futures.ThreadPoolExecutor(1, "load")
    try:
        loading = pool.submit(settings.open_model, options)
        listing = match.list_images(
            options.input, options.input_format, options.tfrecord_id_key, options.label_from_parent
        )
        return listing, loading.result()
    finally:
        pool.shutdown(wait=False)  # a mistake in the inputs is told at once


def _new_pipeline(options: ImageOptions) -> beam.Pipeline:
    """An empty pipeline on the runner that was asked for.

    Raises:
      UserError: the runner's own options are not complete or do not fit.
    """
    try:
        return beam.Pipeline(runner=runners.create(options), options=options)
    except ValueError as error:
        raise UserError(f"--runner {options.view_as(StandardOptions).runner}: {error}") from error


def _run_pipeline(pipeline: beam.Pipeline) -> None:
    with runners.direct.lost_workers_end_the_job():
        result = pipeline.run()
    state = result.wait_until_finish()
    if (state or result.state) != PipelineState.DONE:
        raise RuntimeError(f"the runner ended in state {state or result.state}")


def _check_accounts(output: manifest.Output, sizes: dict[str, int]) -> None:
    """images matched = rows + error rows, shard by shard."""
    accounted = {part.shard: part.rows + part.errors for part in output.parts.values()}
    wrong = [name for name, size in sizes.items() if accounted.get(name) != size]
    if wrong:
        raise AccountingError(
            f"{len(wrong)} of {len(sizes)} shards are not accounted for, such as {wrong[0]}: "
            f"{accounted.get(wrong[0])} of {sizes[wrong[0]]} images; run the same command again"
        )


def _describe(plan: Plan, shards: int, passed_over: collections.Counter[str]) -> str:
    text = f"{plan.matched:,} images: {len(plan.todo):,} to do in {_count(shards, 'shard')}"
    if plan.unchanged:
        text += f", {plan.unchanged:,} done already"
    if plan.changed:
        text += (
            f", {plan.changed:,} changed since (what is committed is kept; --overwrite redoes all)"
        )
    if passed_over:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in passed_over.most_common(5))
        more = "" if len(passed_over) <= 5 else ", …"
        text += f"; passed over {passed_over.total():,} other files ({kinds}{more})"
    return text


def _report(
    options: ImageOptions,
    argv: list[str],
    run_id: str,
    started: float,
    pipeline_seconds: float,
    plan: Plan,
    listing: match.Listing,
    output: manifest.Output,
    shards: set[str],
    succeeded: bool,
) -> dict[str, Any]:
    now = [part for part in output.parts.values() if part.shard in shards]
    ended = time.time()
    stages = {"read": 0.0, "decode": 0.0, "infer": 0.0, "write": 0.0} | output.seconds(shards)
    return {
        "run_id": run_id,
        "command": manifest.command_line(argv),
        "succeeded": succeeded,
        "started": _iso(started),
        "ended": _iso(ended),
        "counts": {
            "matched": plan.matched,
            "done_before": plan.unchanged + plan.changed,
            "changed_since": plan.changed,
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


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(
        timespec="seconds"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
