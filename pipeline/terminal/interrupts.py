"""Ctrl-C and SIGTERM: stop at once, keep what is committed, say how to go on."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn


class Noticed:
    """Which signal came, if any.

    Beam turns a KeyboardInterrupt in a DoFn into a RuntimeError, so the exception cannot tell.
    """

    signal: signal.Signals | None = None


@contextlib.contextmanager
def noticed() -> Iterator[Noticed]:
    """Notes SIGINT and SIGTERM, and raises KeyboardInterrupt for them, within the body."""
    seen = Noticed()

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.signal = signal.Signals(number)
        logging.disable()  # Beam's tale of how each of its threads took it
        threading.excepthook = lambda _: None
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
