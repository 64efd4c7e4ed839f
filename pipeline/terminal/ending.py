"""How a long command ends: done, with a mistake that is told in one line, failed or interrupted."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from pipeline import exit_codes
from pipeline.terminal import interrupts
from pipeline.terminal.imports import import_failure


def told_to_the_end(work: Callable[[list[str]], int], argv: list[str], how_to_continue: str) -> int:
    """Does the work, and tells on stderr what went wrong.

    Args:
      work: from the words of the command line to an exit code; it imports what may fail to.
      argv: the words.
      how_to_continue: what is said after a failure or an interrupt.

    Returns:
      the exit code.
    """
    with interrupts.noticed(how_to_continue) as noticed:
        try:
            from pipeline.terminal.errors import told
            from transforms.errors import UserError

            try:
                return work(argv)
            except UserError as error:
                print(f"error: {told(error)}", file=sys.stderr)
                return exit_codes.of_mistake(error)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the exit code tells it
            interrupts.let_last_words_appear()
            if noticed.signal is not None:
                interrupts.leave(noticed.signal, how_to_continue)
            wrong = import_failure(error)
            if wrong is not None:
                print(f"error: {wrong}", file=sys.stderr)
                return exit_codes.MISTAKE
            _tell_failure(error, argv, how_to_continue)
            return exit_codes.FAILED


def _tell_failure(error: BaseException, argv: list[str], how_to_continue: str) -> None:
    from pipeline.terminal import failures
    from transforms.storage.secrets import masked

    cause = failures.cause(error)
    if "--verbose" in argv:
        print(masked("".join(traceback.format_exception(error))), file=sys.stderr)
    elif not cause.is_known and (kept := failures.keep_traceback(error)):
        print(f"the traceback is in {kept}", file=sys.stderr)
    stop = "" if cause.text.endswith("?") else ";"
    print(f"failed: {cause.text}{stop} {how_to_continue}", file=sys.stderr)
