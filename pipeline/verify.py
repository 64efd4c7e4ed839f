"""`python -m pipeline.verify OUT`: whether an output is whole, and still what would be computed.

Reads every part to the last byte and computes a random sample of the images again, with the model,
the program and the libraries of today. Writes nothing. The exit code is 0 if all is well, 1 if
anything differs, 2 for a mistake in the command.
"""

from __future__ import annotations

from pipeline import start

if __name__ == "__main__":  # first, as what is imported below may fail
    start.end_process(start.begin("pipeline.verify:main"))

import argparse
import dataclasses
import json
import sys
import time
from typing import Any

from pipeline import exit_codes
from pipeline.checks.verdict import Verdict, verify
from pipeline.options import types
from pipeline.options.arguments import own_parser
from pipeline.options.parser import Parser, no_such_option, similar_option
from pipeline.output.directory import open_finished
from pipeline.terminal import logs
from pipeline.terminal.errors import told
from pipeline.terminal.streams import shown
from pipeline.terminal.words import count
from transforms.errors import UserError

WHOLE, DIFFERENT = 0, 1

_SHOWN = 50


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    logs.set_up(verbose=False)
    try:
        given, flags = _parse(argv)
        verdict = verify(open_finished(given.output), given.sample, given.seed, flags)
    except UserError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return exit_codes.of_mistake(error)
    if given.json:
        print(json.dumps(_as_json(verdict), indent=2))
    else:
        print("\n".join(_as_text(verdict)))
    return DIFFERENT if verdict.problems else WHOLE


def _parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Its own options, and those of run."""
    parser = _parser()
    given, flags = parser.parse_known_args(argv)
    own, of_run = parser._option_string_actions, own_parser()._option_string_actions
    for word in flags:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in of_run and similar_option(flag, own):
            raise no_such_option(word, own)
    return given, flags


def _as_json(verdict: Verdict) -> dict[str, Any]:
    sample = dataclasses.asdict(verdict.recomputed) if verdict.recomputed else {}
    sample.pop("problems", None)
    return {
        "parts": verdict.parts,
        "rows": verdict.checked.rows,
        "errors": verdict.checked.errors,
        "sample": sample or None,
        "problems": [told(problem) for problem in verdict.problems],
        "notes": verdict.notes,
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
    lines += [f"wrong    {told(problem)}" for problem in verdict.problems[:_SHOWN]]
    left = len(verdict.problems) - _SHOWN
    if left > 0:
        lines.append(f"wrong    … and {left:,} more (--json lists all)")
    lines += [f"note     {shown(note)}" for note in verdict.notes]
    if verdict.problems:
        lines.append(count(len(verdict.problems), "problem"))
    else:
        lines.append("what is here is whole" if verdict.notes else "all is well")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "verify",
        usage="%(prog)s OUT [--sample N] [--seed N] [--json] [option of run ...]",
        description="Checks every part of an output and computes some of its images again.",
        epilog="Of the last run's options, those that decide numbers are taken from its record; "
        "the model only if it is the built-in or lies here with the digest that was recorded. All "
        "others, such as --model, --trust_model, --labels or those of a store, are given as for "
        "run. Exit codes: 0 all is well; 1 something differs; 2 a mistake in the command; 3 a run "
        "is at work there.",
    )
    parser.add_argument("output", metavar="OUT", help="output directory of a run")
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
