"""`python -m pipeline.verify OUT`: whether an output is whole, and still what would be computed.

Reads every part to the last byte and computes a random sample of the images again, with the model,
the program and the libraries of today. Writes nothing. The exit code is 0 if all is well, 1 if
anything differs, 2 for a mistake in the command.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from pipeline import settings
from pipeline.checks.parts import Checked, check_parts
from pipeline.checks.recompute import Recomputed, recompute
from pipeline.checks.sample import Sample, StoredImage
from pipeline.options import model, types
from pipeline.options.arguments import parse
from pipeline.output import lease, run_record
from pipeline.output.directory import Output, open_finished
from pipeline.terminal import logs
from pipeline.terminal.report import count
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.layout import SNAPSHOT_FILE, is_part_name
from transforms.errors import UserError

WHOLE, DIFFERENT, MISTAKE = 0, 1, 2

_SHOWN = 50


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
      parts: how many there are.
      checked: what is in them.
      recomputed: how the sample came out; None if there was nothing to compute again.
      problems: all that is wrong, one line each.
    """

    parts: int
    checked: Checked
    recomputed: Recomputed | None
    problems: list[str]


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    logs.set_up(verbose=False)
    try:
        given, flags = _parser().parse_known_args(argv)
        verdict = verify(open_finished(given.output), given.sample, given.seed, flags)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    if given.json:
        print(json.dumps(_as_json(verdict), indent=2))
    else:
        print("\n".join(_as_text(verdict)))
    return DIFFERENT if verdict.problems else WHOLE


def verify(output: Output, size: int, seed: int, flags: Sequence[str] = ()) -> Verdict:
    """Checks an output.

    Args:
      output: an output of `pipeline.run`.
      size: how many images are computed again.
      seed: which ones.
      flags: of `pipeline.run`, in addition to those that the last run was given.

    Raises:
      UserError: a run is at work there, or the run's own options cannot be used any more.
    """
    lease.refuse_if_held(output)
    try:
        state = snapshot.read_snapshot(output.directory)
    except ValueError as error:
        raise UserError(f"{error}; the next run writes it anew, delete it") from error
    names = [name for name in storage.list_names(output.directory) if is_part_name(name)]
    sample = Sample(size, seed)
    checked = check_parts(output, names, state, sample)
    run, problems = _last_run(output)
    problems = checked.problems + problems
    if run and "counts" in run:
        problems += _count_problems(output, checked, names, state, run["counts"])
    recomputed = None
    if sample.images and run:
        arguments = [*run["arguments"], *flags]
        recomputed, more = _recompute(output, sample.images, arguments, checked)
        problems += more + recomputed.problems
    return Verdict(len(names), checked, recomputed, problems)


def _last_run(output: Output) -> tuple[dict[str, Any] | None, list[str]]:
    """What `_run.json` says, or what is known of a run that did not finish; and what is wrong."""
    try:
        report = run_record.read_report(output)
    except ValueError as error:
        return None, [f"{error}; the next run writes it anew"]
    if report is not None:
        return report, []
    interrupted = run_record.read_started(output)
    how = f": {interrupted['command']}" if interrupted else ""
    return interrupted, [
        f"{output.directory}: the last run did not finish; the same command again continues{how}"
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
                f"{output.directory}: {there:,} {what} in the parts, {run_record.RUN_FILE} says "
                f"{counts[what]:,}"
            )
    # Earlier versions did not tell how many rows are of images that the inputs do not hold.
    accounted = counts["matched"] + counts.get("kept", 0)
    if "kept" in counts and counts["rows"] + counts["errors"] != accounted:
        problems.append(
            f"{output.path(run_record.RUN_FILE)}: {counts['rows'] + counts['errors']:,} rows and "
            f"error rows for {accounted:,} images"
        )
    return problems


def _recompute(
    output: Output, images: list[StoredImage], arguments: list[str], checked: Checked
) -> tuple[Recomputed, list[str]]:
    parsed = parse([*arguments, "--output", output.directory])
    source = settings.open_model(parsed)
    before = checked.fingerprint.get("engine")
    resolved = settings.resolve(parsed, source, sorted(checked.containers), before)
    now = dict(resolved.part_format.fingerprint)
    differing = run_record.differences(checked.fingerprint, now)
    problems = [f"{output.directory}: other settings now: {what}" for what in differing]
    return recompute(images, resolved), problems


def _as_json(verdict: Verdict) -> dict[str, Any]:
    sample = dataclasses.asdict(verdict.recomputed) if verdict.recomputed else {}
    sample.pop("problems", None)
    return {
        "parts": verdict.parts,
        "rows": verdict.checked.rows,
        "errors": verdict.checked.errors,
        "sample": sample or None,
        "problems": verdict.problems,
    }


def _as_text(verdict: Verdict) -> list[str]:
    checked, recomputed = verdict.checked, verdict.recomputed
    lines = [
        f"parts    {verdict.parts:,} read: {count(checked.rows, 'row')}, "
        f"{count(checked.errors, 'error row')}"
    ]
    if recomputed is not None:
        line = f"sample   {count(recomputed.images, 'image')} computed again"
        if recomputed.compared:
            line += (
                f": vectors differ by at most {recomputed.relative_difference:.1e} of their norm, "
                f"cosine at least {recomputed.smallest_cosine:.7f}"
            )
        lines.append(line)
    lines += [f"wrong    {problem}" for problem in verdict.problems[:_SHOWN]]
    left = len(verdict.problems) - _SHOWN
    if left > 0:
        lines.append(f"wrong    … and {left:,} more (--json lists all)")
    lines.append(
        f"{count(len(verdict.problems), 'problem')}" if verdict.problems else "all is well"
    )
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = model.Parser(
        prog="python -m pipeline.verify",
        usage="%(prog)s OUT [--sample N] [--seed N] [--json] [option of pipeline.run ...]",
        description="Checks every part of an output and computes some of its images again.",
        epilog="Options of pipeline.run, such as --model, are added to those of the last run: give "
        "them where a path is another one now, or for secrets. Exit codes: 0 all is well; 1 "
        "something differs; 2 a mistake in the command.",
        allow_abbrev=False,
    )
    parser.add_argument("output", metavar="OUT", help="output directory of pipeline.run")
    parser.add_argument(
        "--sample",
        type=types.natural,
        default=100,
        metavar="N",
        help="how many random images to compute again (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=types.natural,
        default=int(time.time()),
        metavar="N",
        help="which images; the same seed takes the same ones (default: others each time)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
