"""One run from the options to the exit code: list, plan, run, account for every image."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import sys
import time
import uuid
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import StandardOptions, TestOptions
from apache_beam.runners.runner import PipelineState

import runners
from pipeline import graph, settings
from pipeline.options.arguments import ImageOptions
from pipeline.output import lease, publish, run_record
from pipeline.output.directory import Output, open_output
from pipeline.planning.plan import Plan, make_plan, plan_line
from pipeline.settings import Settings
from pipeline.terminal import report
from pipeline.terminal.progress import Progress
from transforms import shards, storage
from transforms.dataset import snapshot
from transforms.dataset.layout import LEASE_FILE, PLAN_DIRECTORY, STAGING_DIRECTORY, is_part_name
from transforms.dataset.part import read_part
from transforms.errors import UserError
from transforms.inputs.content_versions import with_content_versions
from transforms.inputs.listing import Listing, list_images
from transforms.models.source import ModelSource

DONE, FAILED, MISTAKE = 0, 1, 2


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
    output = open_output(storage.absolute(options.output))
    lease.refuse_if_held(output)
    _say("listing the inputs and loading the model")
    listing, source = _list_while_loading(options)
    resolved = settings.resolve(
        options, source, listing.containers, _engine_before(options, output)
    )
    _say_engine(resolved)
    pipeline = _new_pipeline(options)
    if options.view_as(TestOptions).dry_run:
        seen = Output(output.directory) if options.overwrite else output
        _plan(options, listing, resolved, seen, publish.staging(seen))
        return DONE
    run_id = uuid.uuid4().hex[:12]
    with lease.held(output, run_id) as dead:
        if dead is not None:
            _say(f"taking over from {dead.who}, which ended before it was done")
        if options.overwrite:
            run_record.overwrite(output)
        if publish.roll_forward(output):
            _say("brought to its end: a change that a run had begun to publish")
        return _run(options, argv, run_id, started, listing, resolved, output, pipeline)


def _run(
    options: ImageOptions,
    argv: list[str],
    run_id: str,
    started: float,
    listing: Listing,
    resolved: Settings,
    output: Output,
    pipeline: beam.Pipeline,
) -> int:
    """What is done under the lease."""
    plan = _plan(options, listing, resolved, output, publish.staging(output))
    run_record.clear_temporaries(output)
    target = publish.staging(output).refresh() if plan.replaces else output
    pointers = _write_plan(options, plan, output, run_id)
    for refs in (listing.refs, plan.todo):
        refs.clear()  # they are written down, and there may be millions
    run = {
        "run_id": run_id,
        "command": run_record.command_line(argv),
        "arguments": run_record.without_secrets(argv),
        "started": report.iso(started),
        "matched": plan.matched,
        "todo": plan.computes,
        "shards": [pointer.name for pointer in pointers],
        "parts_in": STAGING_DIRECTORY if plan.replaces else "",
    }
    run_record.start(output, run)
    pipeline_started = time.time()
    if pointers:
        may_commit = functools.partial(lease.check_held, output.path(LEASE_FILE), run_id)
        with Progress(target, plan.computes):
            graph.build(pipeline, pointers, resolved, target.directory, may_commit)
            _run_pipeline(pipeline)
    pipeline_seconds = time.time() - pipeline_started
    target.refresh()
    _check_shards(target, pointers)
    names = {pointer.name for pointer in pointers}
    now = [part for part in target.parts.values() if part.shard in names]
    _publish(plan, output)
    if options.mode == "sync":
        _check_total(output, plan)
    errors_now = sum(part.errors for part in now)
    error_rate = max(0, errors_now - plan.retried) / max(1, plan.computes - plan.retried)
    succeeded = error_rate <= options.max_error_rate
    told = report.run_report(
        options, argv, run_id, plan, listing, output, now, started, pipeline_seconds, succeeded
    )
    told["fingerprint"] = dict(resolved.part_format.fingerprint)
    told["parity"] = resolved.parity and dataclasses.asdict(resolved.parity)
    run_record.finish(output, told, succeeded)
    with contextlib.suppress(BrokenPipeError):  # all is committed, whoever reads this
        print("\n".join(report.summary(told, output)), flush=True)
    if not succeeded:
        print(
            f"failed: {error_rate:.0%} of the images are errors, over --max_error_rate "
            f"{options.max_error_rate:g}; all that worked is committed",
            file=sys.stderr,
        )
    return DONE if succeeded else FAILED


def _plan(
    options: ImageOptions,
    listing: Listing,
    resolved: Settings,
    output: Output,
    staging: Output,
) -> Plan:
    """Makes the plan and prints it.

    Raises:
      UserError: the output is of other settings, or more rows would go than may go.
    """
    if not options.overwrite:
        fingerprint = dict(resolved.part_format.fingerprint)
        run_record.refuse_other_settings(output, fingerprint)
        run_record.refuse_other_settings(staging, fingerprint)
    plan = make_plan(listing.refs, output, staging, options.mode, options.retry_errors)
    there = output.rows + output.errors
    if plan.gone > options.max_gone_rate * there:
        raise UserError(
            f"--mode sync: {plan.gone:,} of {there:,} rows are of images that the inputs no longer "
            f"hold, over --max_gone_rate {options.max_gone_rate:g}; is an input missing? Nothing "
            "was changed"
        )
    _say(plan_line(plan, options.mode) + _passed_over(listing.passed_over))
    return plan


def _write_plan(
    options: ImageOptions, plan: Plan, output: Output, run_id: str
) -> list[shards.ShardPointer]:
    """Groups what is to do into shards, as an interrupted run had them, and writes them down."""
    paths = run_record.earlier_plans(output)
    earlier = (shard for path in paths for shard in shards.read_plan(path))
    generation = ""
    if plan.replaces:
        generation = str(snapshot.read_snapshot(output.directory).generation)
    planned = shards.continue_plan(
        plan.todo, earlier, options.rows_per_file, generation, runners.bundles_at_once(options)
    )
    pointers = shards.write_plan(planned, output.path(PLAN_DIRECTORY), run_id)
    storage.delete(paths)
    if pointers:
        _say(f"{plan.computes:,} images to do in {report.count(len(pointers), 'shard')}")
    return pointers


def _publish(plan: Plan, output: Output) -> None:
    """Makes the run's result the state of the output, after a last look at it.

    Raises:
      DuplicateIdsError: an id would be there twice.
    """
    if not plan.replaces:
        run_record.check_ids_unique([output])
        return
    change = publish.prepare(output, plan.drop, plan.drop_staged)
    stays = {name: part for name, part in output.parts.items() if name not in plan.drop}
    run_record.check_ids_unique([Output(output.directory, stays), *change.added])
    publish.publish(output, change)
    output.refresh()


def _list_while_loading(options: ImageOptions) -> tuple[Listing, ModelSource]:
    """Lists the inputs while the model is staged, TensorFlow imported and the model loaded."""
    pool = concurrent.futures.ThreadPoolExecutor(1, "load")
    try:
        loading = pool.submit(settings.open_model, options)
        listing = list_images(
            options.input, options.input_format, options.tfrecord_id_key, options.label_from_parent
        )
        if options.version == "sha256":
            refs = with_content_versions(listing.refs, options.max_file_bytes)
            listing = dataclasses.replace(listing, refs=refs)
        return listing, loading.result()
    finally:
        pool.shutdown(wait=False)  # a mistake in the inputs is told at once


def _engine_before(options: ImageOptions, output: Output) -> str | None:
    """The engine of the parts that are there, with which `--engine auto` stays."""
    if options.engine != "auto" or options.overwrite:
        return None
    for name in storage.list_names(output.directory):
        if is_part_name(name):
            with contextlib.suppress(OSError, ValueError):  # told when all parts are checked
                return read_part(output.path(name)).fingerprint.get("engine")
    return None


def _say_engine(resolved: Settings) -> None:
    if resolved.rates:
        measured = ", ".join(f"{size}: {rate:.0f}/s" for size, rate in resolved.rates.items())
        _say(f"batch size {resolved.batch_size} (the model on blank images, {measured})")
    if resolved.passed_over:
        _say(f"engine {resolved.engine}; passed over: {resolved.passed_over}")
    if resolved.parity:
        _say(
            f"engine {resolved.engine} {resolved.precision} against tensorflow float32: "
            f"{resolved.parity}"
        )


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


def _check_shards(output: Output, pointers: Sequence[shards.ShardPointer]) -> None:
    """images matched = rows + error rows, shard by shard."""
    accounted = {part.shard: part.rows + part.errors for part in output.parts.values()}
    wrong = [pointer for pointer in pointers if accounted.get(pointer.name) != pointer.size]
    if wrong:
        raise AccountingError(
            f"{len(wrong)} of {len(pointers)} shards are not accounted for, such as "
            f"{wrong[0].name}: {accounted.get(wrong[0].name)} of {wrong[0].size} images; run the "
            "same command again"
        )


def _check_total(output: Output, plan: Plan) -> None:
    """After a sync: images matched = rows + error rows, in the whole output."""
    total = output.rows + output.errors
    if total != plan.matched + plan.kept:
        raise AccountingError(
            f"{output.directory} has {total} rows and error rows for {plan.matched} images; run "
            "the same command again"
        )


def _passed_over(passed_over: collections.Counter[str]) -> str:
    if not passed_over:
        return ""
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in passed_over.most_common(5))
    more = "" if len(passed_over) <= 5 else ", …"
    return f"; passed over {passed_over.total():,} other files ({kinds}{more})"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
