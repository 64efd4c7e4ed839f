"""`python -m pipeline.run`: images to feature vectors or logits in Parquet.

Only parses, calls and gives the exit code: what is defined here lives in `__main__` and would not
unpickle on a worker.
"""

from __future__ import annotations

from pipeline import start

if __name__ == "__main__":  # first, as what is imported below may fail
    raise SystemExit(start.begin("pipeline.run:command"))

import os
import sys
from typing import NoReturn

from pipeline import exit_codes
from pipeline.terminal import ending, logs

_HOW_TO_CONTINUE = "what is committed stays; the same command continues"


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    logs.set_up(verbose="--verbose" in argv)
    return ending.told_to_the_end(_run, argv, _HOW_TO_CONTINUE)


def _run(argv: list[str]) -> int:
    from pipeline import job
    from pipeline.options.door import read_options
    from pipeline.output.announcement import announced

    options = read_options(argv)
    with announced(options.output.directory):
        return job.run(options)


def command(argv: list[str] | None = None) -> NoReturn:
    """Runs the command line and ends the process at once: all is committed then."""
    code = main(argv)
    if code in (exit_codes.DONE, exit_codes.FAILED):
        start.end_process(code)
    sys.stdout.flush()  # a mistake waits for no model to be loaded
    sys.stderr.flush()
    os._exit(code)
