"""Ctrl-C and SIGTERM: stop at once, keep what is committed, say how to go on.

A job on other machines does not end with its launcher: it is cancelled.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

# Of a runner that is asked to cancel a job.
_PATIENCE_SECONDS = 30.0

# After a signal, whatever holds the process up: Beam waits for workers, and both of the above.
_LAST_RESORT_SECONDS = 90.0


class Noticed:
    """Which signal came, if any.

    Beam turns a KeyboardInterrupt in a DoFn into a RuntimeError, so the exception cannot tell.
    """

    signal: signal.Signals | None = None


@contextlib.contextmanager
def noticed(how_to_continue: str) -> Iterator[Noticed]:
    """Notes SIGINT and SIGTERM, and raises KeyboardInterrupt for them, within the body.

    What that does not end in good time is ended all the same.

    Args:
      how_to_continue: what is said then, as by `leave`.
    """
    seen = Noticed()

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.signal = signal.Signals(number)
        logging.disable()  # Beam's tale of how each of its threads took it
        threading.excepthook = lambda _: None
        end = threading.Timer(_LAST_RESORT_SECONDS, leave, (seen.signal, how_to_continue))
        end.daemon = True
        end.start()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as under nohup
            signal.signal(number, interrupt)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def cancelling(cancel: Callable[[], object], where: str) -> Iterator[None]:
    """Cancels a job on other machines if Ctrl-C or SIGTERM comes within the body, and says so.

    Args:
      cancel: of the job; raises what it likes.
      where: whose job it is, such as the runner's name.
    """
    try:
        yield
    except KeyboardInterrupt:
        let_last_words_appear()
        print(f"cancelling the job of {where}", file=sys.stderr, flush=True)
        _say_of(_within_patience(cancel), where)
        _within_patience(atexit._run_exitfuncs)  # such as those that end a runner's job server
        raise


def _say_of(failure: str | None, where: str) -> None:
    if failure is None:
        print(f"the job of {where} is cancelled", file=sys.stderr, flush=True)
        return
    print(
        f"the job of {where} cannot be cancelled: {failure}; end it there, before the same command "
        "continues",
        file=sys.stderr,
        flush=True,
    )


def _within_patience(call: Callable[[], object]) -> str | None:
    """Calls it in a thread that may hang; what went wrong, None if nothing did."""
    failures: list[str] = [f"no answer within {_PATIENCE_SECONDS:g} s"]

    def run() -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - each runner has errors of its own
            failures[:] = [" ".join(str(error).split()) or type(error).__name__]
        else:
            failures.clear()

    thread = threading.Thread(target=run, name="cancel", daemon=True)
    thread.start()
    thread.join(_PATIENCE_SECONDS)
    return failures[0] if failures else None


def let_last_words_appear() -> None:
    """Another thread may hold back what is written to stderr, and would not come to show it."""
    native_stderr = sys.modules.get("transforms.machine.native_stderr")
    if native_stderr is not None:
        native_stderr.give_back()


def leave(number: signal.Signals, how_to_continue: str) -> NoReturn:
    """Ends the process after a signal: its threads may be deep in a batch and would hold it up."""
    let_last_words_appear()
    print(f"interrupted: {how_to_continue}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(128 + number)
