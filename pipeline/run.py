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
import traceback
from typing import NoReturn

from pipeline import exit_codes
from pipeline.terminal import interrupts, logs
from pipeline.terminal.imports import import_failure

_HOW_TO_CONTINUE = "what is committed stays; the same command continues"


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    logs.set_up(verbose="--verbose" in argv)
    with interrupts.noticed(_HOW_TO_CONTINUE) as noticed:
        try:
            from pipeline import job
            from pipeline.options.door import read_options
            from pipeline.output.announcement import announced
            from pipeline.terminal.errors import told
            from transforms.errors import UserError

            try:
                options = read_options(argv)
                with announced(options.output.directory):
                    return job.run(options)
            except UserError as error:
                print(f"error: {told(error)}", file=sys.stderr)
                return exit_codes.of_mistake(error)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the exit code tells it
            interrupts.let_last_words_appear()
            if noticed.signal is not None:
                interrupts.leave(noticed.signal, _HOW_TO_CONTINUE)
            wrong = import_failure(error)
            if wrong is not None:
                print(f"error: {wrong}", file=sys.stderr)
                return exit_codes.MISTAKE
            _tell_failure(error, argv)
            return exit_codes.FAILED


def _tell_failure(error: BaseException, argv: list[str]) -> None:
    from pipeline.terminal import failures
    from transforms.storage.secrets import masked

    cause = failures.cause(error)
    if "--verbose" in argv:
        print(masked("".join(traceback.format_exception(error))), file=sys.stderr)
    elif not cause.is_known and (kept := failures.keep_traceback(error)):
        print(f"the traceback is in {kept}", file=sys.stderr)
    stop = "" if cause.text.endswith("?") else ";"
    print(f"failed: {cause.text}{stop} {_HOW_TO_CONTINUE}", file=sys.stderr)


def command(argv: list[str] | None = None) -> NoReturn:
    """Runs the command line and ends the process at once: all is committed then."""
    code = main(argv)
    if code in (exit_codes.DONE, exit_codes.FAILED):
        start.end_process(code)
    sys.stdout.flush()  # a mistake waits for no model to be loaded
    sys.stderr.flush()
    os._exit(code)
