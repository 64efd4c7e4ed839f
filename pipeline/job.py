"""One run from the options to the exit code: list, plan, run, account for every image."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import sys
import time
import uuid

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineState

import runners
from pipeline import exit_codes, graph, outcome, settings
from pipeline.checks import trial
from pipeline.options import workers
from pipeline.options.values import RunOptions
from pipeline.options.written import written
from pipeline.output import accounting, lease, publish, run_record
from pipeline.output.directory import Output, open_output
from pipeline.output.previous import Keeping
from pipeline.output.publish import Look
from pipeline.output.staging import delete_useless, drop_half_deleted, staging_of
from pipeline.planning.inputs import list_inputs, lost_text
from pipeline.planning.plan import LimitError, Plan, make_plan, plan_line
from pipeline.planning.shards import plan_shards
from pipeline.settings import Settings
from pipeline.terminal import interrupts, report, streams
from pipeline.terminal.lines import engine_lines, passed_over_text, say, trial_lines
from pipeline.terminal.progress import Progress
from pipeline.terminal.words import count
from runners import job_servers
from transforms import storage
from transforms.dataset.layout import STAGING_DIRECTORY, is_part_name
from transforms.dataset.part import read_part
from transforms.dataset.snapshot import read_snapshot
from transforms.errors import UserError
from transforms.inputs.listing import Listing
from transforms.machine import tally
from transforms.models.source import ModelSource
from transforms.shards import ShardPointer
from transforms.storage.conditional_writes import StoredText


def run(options: RunOptions) -> int:
    """Runs the job.

    Returns:
      the exit code: 0, or 1 if more images failed than `--max_error_rate` allows; readers then see
      what they saw before.

    Raises:
      UserError: the options, the inputs or the output directory are wrong; nothing was written.
      Exception: the pipeline failed; what was committed stays, and the same command continues.
    """
    FileSystems.set_options(options.beam)
    started = time.time()
    output = open_output(storage.absolute(options.output.directory))
    dead_lease = lease.refuse_if_held(output)
    say("listing the inputs and loading the model")
    listing, source = _list_while_loading(options)
    before = _fingerprint_before(options, output)
    resolved = settings.resolve(options, source, listing.containers, before, listing.only_jpegs)
    say(*engine_lines(resolved))
    pipeline = _new_pipeline(options.beam)
    if options.dry_run:
        _plan(options, listing, resolved, output)
        return exit_codes.DONE
    return work(options, started, listing, resolved, output, pipeline, dead_lease)


def work(
    options: RunOptions,
    started: float,
    listing: Listing,
    resolved: Settings,
    output: Output,
    pipeline: beam.Pipeline,
    dead_lease: StoredText | None = None,
) -> int:
    """All that changes the output, under the lease.

    Args:
      options: the command line.
      started: when the run began, in seconds since the epoch.
      listing: what the inputs hold; its refs are gone afterwards.
      resolved: how images are computed.
      output: the directory.
      pipeline: still empty.
      dead_lease: a lease of another run that was seen to be dead.

    Returns:
      the exit code.
    """
    run_id = uuid.uuid4().hex[:12]
    with lease.held(output, run_id, dead_lease) as dead:
        look = lease.look(output, run_id)
        if dead is not None:
            say(f"taking over from {dead.who}, which ended before it was done")
        if options.output.overwrite:
            publish.discard_damaged(output)
        if publish.roll_forward(output, look):
            say("brought to its end: a change that a run had begun to publish")
        return _work(options, run_id, started, listing, resolved, output, pipeline, look)


def _work(
    options: RunOptions,
    run_id: str,
    started: float,
    listing: Listing,
    resolved: Settings,
    output: Output,
    pipeline: beam.Pipeline,
    look: Look,
) -> int:
    """What is done when the output is in one state."""
    drop_half_deleted(output)
    staging = staging_of(output)
    if run_record.is_of_other_settings(staging, dict(resolved.part_format.fingerprint)):
        say(f"{staging.directory}: what a run with other settings left there is dropped")
        look()
        storage.delete([staging.directory])
    plan = _plan(options, listing, resolved, output)
    resolved = trial.tried(resolved, plan.todo, options.engine.accept_model)
    say(*trial_lines(resolved))
    if plan.given_up:
        had = count(plan.given_up, "image")
        say(f"dropped: {had} that an interrupted --overwrite had computed")
    look()
    run_record.clear_temporaries(output)
    delete_useless(staging_of(output).refresh(), plan.drop_staged)
    target = staging_of(output).refresh() if plan.replaces else output
    at_once = runners.bundles_at_once(options.beam)
    pointers = plan_shards(plan, output, run_id, options.output.rows_per_file, at_once)
    if pointers:
        say(f"{plan.computes:,} images to do in {count(len(pointers), 'shard')}")
    for refs in (listing.refs, plan.todo):
        refs.clear()  # they are written down, and there may be millions
    run_record.start(
        output,
        {
            "run_id": run_id,
            "command": run_record.command_line(options.words),
            "arguments": written(options.words),
            "model_sha256": resolved.model_sha256,
            "started": run_record.iso(started),
            "matched": plan.matched,
            "todo": plan.computes,
            "shards": [pointer.name for pointer in pointers],
            "parts_in": STAGING_DIRECTORY if plan.replaces else "",
        },
    )
    pipeline_started = time.time()
    if pointers:
        travels = workers.as_workers_get_it(resolved.source, options.workers)
        there = dataclasses.replace(resolved, source=travels)
        _compute(pipeline, pointers, there, target, plan, look)
    pipeline_seconds = time.time() - pipeline_started
    target.refresh()
    accounting.check_shards(target, pointers)
    names = {pointer.name for pointer in pointers}
    now = [part for part in target.parts.values() if part.shard in names]
    keeping = Keeping(options.output.keep_snapshots, options.output.keep_hours)
    sync = options.output.mode == "sync"
    concluded = outcome.conclude(
        plan, output, sync, options.limits, keeping, look, listing.unreadable
    )
    shown = output if concluded.published else target
    finished = report.Finished(
        run_id, started, pipeline_seconds, concluded, listing, now, output, shown
    )
    told = report.run_report(options, resolved, finished)
    if concluded.published:
        run_record.finish(output, told, keeping, look)
    else:
        run_record.finish_unpublished(output, told, look)
    print("\n".join(map(streams.shown, report.summary(told, output, shown))), flush=True)
    if not concluded.published:
        print(f"failed: {outcome.why_unpublished(concluded, output)}", file=sys.stderr)
    return exit_codes.DONE if concluded.published else exit_codes.FAILED


def _plan(options: RunOptions, listing: Listing, resolved: Settings, output: Output) -> Plan:
    """Makes the plan and prints it.

    Raises:
      UserError: the output is of other settings.
      LimitError: more rows would go than may go.
    """
    staging = staging_of(output)
    fingerprint = dict(resolved.part_format.fingerprint)
    mode, retry_errors = options.output.mode, options.output.retry_errors
    unseen = [*listing.unlisted, *(container.uri for container in listing.unreadable)]
    if run_record.is_of_other_settings(staging, fingerprint):
        staging = Output(staging.directory)
    published: set[str] = set()
    if options.output.overwrite:
        seen = Output(output.directory)
        plan = make_plan(listing.refs, seen, staging, mode, retry_errors, unseen)
        plan = dataclasses.replace(plan, replaces_all=True)
    else:
        run_record.refuse_other_settings(output, fingerprint)
        published.update(read_snapshot(output.directory).parts)
        plan = make_plan(listing.refs, output, staging, mode, retry_errors, unseen, published)
    readers = Output(output.directory, {n: p for n, p in output.parts.items() if n in published})
    there = readers.rows + readers.errors
    if plan.gone > options.limits.max_gone_rate * there:
        raise LimitError(
            f"--mode sync: {plan.gone:,} of {there:,} rows are of images that the inputs no longer "
            f"hold, over --max_gone_rate {options.limits.max_gone_rate:g}; is an input missing? "
            "Nothing was changed"
        )
    say(plan_line(plan, mode) + passed_over_text(listing.passed_over))
    if listing.unreadable:
        say(lost_text(listing.unreadable))
    return plan


def _compute(
    pipeline: beam.Pipeline,
    pointers: list[ShardPointer],
    resolved: Settings,
    target: Output,
    plan: Plan,
    look: Look,
) -> None:
    """Runs the pipeline until each shard is a part.

    Raises:
      Exception: it failed.
    """
    with tally.kept() as counted, Progress(target, plan.computes, counted):
        graph.build(pipeline, pointers, resolved, target.directory, look)
        name = type(pipeline.runner).__name__
        here = name.lower() in runners.LOCAL_NAMES
        watch = runners.direct.lost_workers_end_the_job if here else job_servers.outlive_ctrl_c
        with watch():
            result = pipeline.run()
        with interrupts.cancelling(result.cancel, name):
            state = result.wait_until_finish() or result.state
        if state != PipelineState.DONE:
            raise RuntimeError(f"the runner ended in state {state}")


def _list_while_loading(options: RunOptions) -> tuple[Listing, ModelSource]:
    """Lists the inputs while the model is staged, TensorFlow imported and the model loaded."""
    pool = concurrent.futures.ThreadPoolExecutor(1, "load")
    try:
        loading = pool.submit(settings.open_model, options.model, options.engine)
        return list_inputs(options.input, options.pixels.max_file_bytes), loading.result()
    finally:
        pool.shutdown(wait=False)  # a mistake in the inputs is told at once


def _fingerprint_before(options: RunOptions, output: Output) -> dict[str, str]:
    """That of the parts that are there, as far as a run stays with it without being told."""
    stays = options.engine.name == "auto" or options.input.keep
    if not stays or options.output.overwrite:
        return {}
    for name in storage.list_names(output.directory):
        if is_part_name(name):
            with contextlib.suppress(OSError, ValueError):  # told when all parts are checked
                return read_part(output.path(name)).fingerprint
    return {}


def _new_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """An empty pipeline on the runner that was asked for.

    Raises:
      UserError: the runner's own options are not complete or do not fit.
    """
    try:
        return beam.Pipeline(runner=runners.create(options), options=options)
    except ValueError as error:
        raise UserError(f"--runner {options.view_as(StandardOptions).runner}: {error}") from error
