"""Whether an output is whole, and still what would be computed. Writes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
from collections.abc import Sequence
from typing import Any

from pipeline import settings
from pipeline.checks.parts import Checked, check_parts
from pipeline.checks.recompute import Recomputed, recompute
from pipeline.checks.recorded import Recorded, recorded_options
from pipeline.checks.sample import Sample, StoredImage
from pipeline.options.door import read_options
from pipeline.output import lease, run_record
from pipeline.output.directory import Output
from pipeline.output.journal import read_journal
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.layout import RUN_FILE, SNAPSHOT_FILE, is_part_name
from transforms.errors import Message


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
      parts: how many there are.
      checked: what is in them.
      recomputed: how the sample came out; None if there was nothing to compute again.
      problems: all that is wrong, one line each.
      notes: what else there is to know, one line each.
    """

    parts: int
    checked: Checked
    recomputed: Recomputed | None
    problems: list[Message]
    notes: list[str]


def verify(output: Output, size: int, seed: int, flags: Sequence[str] = ()) -> Verdict:
    """Checks an output.

    Args:
      output: an output of `pipeline.run`.
      size: how many images are computed again.
      seed: which ones.
      flags: of `pipeline.run`, in addition to those of the last run that decide its numbers.

    Raises:
      UserError: a run is at work there, its snapshot or journal is damaged, or the run's own
        options cannot be used any more.
    """
    lease.refuse_if_held(output)
    state = snapshot.read_snapshot(output.directory)
    read_journal(output)
    names = [name for name in storage.list_names(output.directory) if is_part_name(name)]
    sample = Sample(size, seed)
    checked = check_parts(output, names, state, sample)
    run, of_run = _last_run(output)
    texts = checked.problems + of_run
    if run and "counts" in run and run.get("succeeded"):
        texts += _count_problems(output, checked, names, state, run["counts"])
    recomputed, found, left_out = None, [], []
    if sample.images and run:
        recorded = recorded_options(run, flags)
        found, left_out = recorded.problems, recorded.notes
        if not found:
            recomputed, more = _recompute(output, sample.images, recorded, flags, checked)
            texts += more
            found = [*recomputed.problems, *_unexpected(recomputed.outdated, run)]
    problems = [*(Message((text,)) for text in texts), *found]
    notes = [*_notes(run, recomputed), *left_out, *_version_notes(checked.versions)]
    return Verdict(len(names), checked, recomputed, problems, notes)


def _last_run(output: Output) -> tuple[dict[str, Any] | None, list[str]]:
    """What `_run.json` says, or what is known of a run that did not finish; and what is wrong."""
    try:
        report = run_record.read_report(output)
    except ValueError as error:
        return None, [f"{error}; the next run writes it anew"]
    interrupted = run_record.read_started(output)
    if report is not None and (interrupted is None or interrupted["run_id"] == report["run_id"]):
        return report, []
    how = f": {interrupted['command']}" if interrupted else ""
    return interrupted, [
        f"{output.directory}: the last run did not finish; the same command again continues{how}"
    ]


def _unexpected(outdated: dict[str, Message], run: dict[str, Any]) -> list[Message]:
    """Images that have changed and of which the last run does not tell."""
    if not run.get("succeeded", True):
        return []  # it was to replace them, and failed its checks
    stale = set(run.get("stale", ()))
    return [message for image_id, message in outdated.items() if image_id not in stale]


def _version_notes(versions: Sequence[dict[str, str]]) -> list[str]:
    """Libraries that have computed some of the parts and are here in another version."""
    notes = []
    for name in sorted({name for found in versions for name in found}):
        there = sorted({found[name] for found in versions if name in found})
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            here = importlib.metadata.version(name)
            if there != [here]:
                notes.append(f"computed with {name} {', '.join(there)}; here is {here}")
    return notes


def _notes(run: dict[str, Any] | None, recomputed: Recomputed | None) -> list[str]:
    """What is no fault of the parts."""
    if run is None:
        return []
    notes = []
    outdated = recomputed.outdated if recomputed else {}
    expected = len(outdated) - len(_unexpected(outdated, run))
    if expected:
        notes.append(
            f"{expected:,} of the sample have changed or cannot be read: the last run has left "
            "their rows as they were"
        )
    if run.get("succeeded", True):
        return notes
    why = f"with more errors than --max_error_rate {run['max_error_rate']:g} allows"
    if run.get("unreadable"):
        why += f" or with images that cannot be found, such as in {run['unreadable'][0]['uri']}"
    return [
        *notes,
        f"the last run failed, {why}: nothing was published, and readers see the snapshot of "
        "before",
    ]


def _count_problems(
    output: Output,
    checked: Checked,
    names: Sequence[str],
    state: snapshot.Snapshot,
    counts: dict[str, int],
) -> list[str]:
    """Where parts, `_snapshot.json` and `_run.json` of a finished run do not agree."""
    problems = [
        f"{output.path(name)}: no run has finished with it ({SNAPSHOT_FILE} does not "
        "list it); the command of the run takes it up"
        for name in names
        if name not in state.checksums
    ]
    for what, there in (("rows", checked.rows), ("errors", checked.errors)):
        if there != counts[what]:
            problems.append(
                f"{output.directory}: {there:,} {what} in the parts, {RUN_FILE} says "
                f"{counts[what]:,}"
            )
    # Earlier versions did not tell how many rows are of images that the inputs do not hold.
    accounted = counts["matched"] + counts.get("kept", 0)
    if "kept" in counts and counts["rows"] + counts["errors"] != accounted:
        problems.append(
            f"{output.path(RUN_FILE)}: {counts['rows'] + counts['errors']:,} rows and "
            f"error rows for {accounted:,} images"
        )
    return problems


def _recompute(
    output: Output,
    images: list[StoredImage],
    recorded: Recorded,
    flags: Sequence[str],
    checked: Checked,
) -> tuple[Recomputed, list[str]]:
    here = output.directory  # its images say where they are; of the inputs nothing is read
    options = read_options([*recorded.words, *flags, f"--input={here}", f"--output={here}"])
    source = settings.open_model(options.model, options.engine)
    containers = sorted(checked.containers)
    resolved = settings.resolve(options, source, containers, checked.fingerprint)
    now = dict(resolved.part_format.fingerprint)
    before = {k: v for k, v in checked.fingerprint.items() if k not in recorded.unknown}
    now = {k: v for k, v in now.items() if k not in recorded.unknown}
    differing = run_record.differences(before, now)
    problems = [f"{output.directory}: other settings now: {what}" for what in differing]
    return recompute(images, resolved), problems
