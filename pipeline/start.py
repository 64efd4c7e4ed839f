"""Where each verb's process begins, before anything is imported that may fail to.

What stands in the way of the start is one line that names it, and exit code 2.
"""

from __future__ import annotations

import atexit
import os
import pkgutil
import sys
from typing import NoReturn

from pipeline import exit_codes
from pipeline.terminal import streams
from pipeline.terminal.imports import import_failure, taken_for_ours


def begin(does_it: str, words: list[str] | None = None) -> int:
    """Imports what does a verb, and does it.

    Args:
      does_it: `module:function`, from the words behind the verb to an exit code.
      words: None: those of this process.

    Returns:
      the exit code.
    """
    streams.outlast()
    wrong = taken_for_ours()
    if wrong is not None:
        print(f"error: {wrong}", file=sys.stderr)
        return exit_codes.MISTAKE
    try:
        code = pkgutil.resolve_name(does_it)(sys.argv[1:] if words is None else words)
    except Exception as error:
        wrong = import_failure(error)
        if wrong is None:
            raise
        print(f"error: {wrong}", file=sys.stderr)
        return exit_codes.MISTAKE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return exit_codes.INTERRUPTED
    sys.stdout.flush()
    lost = streams.lost()
    if lost is None or streams.reader_is_gone():  # who has read enough has had an answer
        return code
    print(f"failed: the answer could not be written: {lost.strerror}", file=sys.stderr)
    return code or exit_codes.FAILED


def end_process(code: int) -> NoReturn:
    """Ends the process at once, with what asked for it to be told, and nothing else.

    Taking TensorFlow apart takes an interpreter a second or two; threads of gRPC and OpenVINO that
    are still there may hold it up for ever, or end it with a signal.
    """
    atexit._run_exitfuncs()  # such as those that end a runner's job server
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
