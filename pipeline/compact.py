"""`python -m pipeline.compact OUT`: many small parts into few, without changing a row.

A night that adds some images adds some small parts; readers open each. Killed at any moment it
leaves the state before or the state after, and may be started again.
"""

from __future__ import annotations

from pipeline import start

if __name__ == "__main__":  # first, as what is imported below may fail
    start.end_process(start.begin("pipeline.compact:main"))

import argparse
import sys

from pipeline import exit_codes
from pipeline.options import types
from pipeline.options.keeping import add_keeping
from pipeline.options.parser import Parser
from pipeline.output.compaction import compact
from pipeline.output.directory import open_finished
from pipeline.output.previous import Keeping
from pipeline.terminal.errors import told
from pipeline.terminal.words import count
from transforms.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        options = _parser().parse_args(argv)
        output = open_finished(options.output)
        keeping = Keeping(options.keep_snapshots, options.keep_hours)
        before = compact(output, options.rows_per_file, keeping)
    except UserError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return exit_codes.of_mistake(error)
    now = len(output.parts)
    print(
        count(before, "part")
        + (f" -> {count(now, 'part')}" if now < before else ": nothing to gather")
    )
    return exit_codes.DONE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "compact",
        description="Gathers the small parts of an output into larger ones; no row changes.",
        epilog="Exit codes: 0 done; 2 a mistake in the command; 3 a run is at work there.",
    )
    parser.add_argument("output", metavar="OUT", help="output directory of a run")
    parser.add_argument(
        "--rows_per_file",
        type=types.positive,
        default=4096,
        metavar="N",
        help="images in one Parquet file, at most (default: %(default)s)",
    )
    add_keeping(parser)
    return parser
