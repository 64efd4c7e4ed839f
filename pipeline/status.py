"""`python -m pipeline.status OUT`: how far a run is, from its output directory alone.

The exit code is 0 if the state could be told, whatever it is; 1 if a file is damaged (it is named
and not counted); 2 for a mistake in the command; 130 after Ctrl-C.
"""

from __future__ import annotations

from pipeline import start

if __name__ == "__main__":  # first, as what is imported below may fail
    start.end_process(start.begin("pipeline.status:main"))

import argparse
import contextlib
import itertools
import json
import math
import re
import shutil
import sys
import time

from pipeline import exit_codes
from pipeline.options.parser import Parser
from pipeline.output.announcement import is_announced
from pipeline.output.directory import NoOutputError, open_finished
from pipeline.output.observer import Observer
from pipeline.output.state import Status, tell
from pipeline.terminal import streams
from pipeline.terminal.errors import told
from pipeline.terminal.status_text import status_json, status_lines
from transforms.errors import UserError, one_line

TOLD, UNREADABLE = 0, 1

_WATCH_SECONDS = 2.0
_LINE_SECONDS = 60.0

# A run lists its inputs and loads its model before it takes the output. On this machine that is
# seen. One that begins elsewhere is waited for: so long where there is no output yet, so many looks
# where there is one of earlier runs.
_BEGIN_SECONDS, _LOOKS_FOR_ANOTHER = 60.0, 15
_ANNOUNCED = "a run has begun; it lists its inputs and loads its model"


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        options = _parser().parse_args(_with_seconds(sys.argv[1:] if argv is None else argv))
        if options.watch is None:
            status = tell(Observer(open_finished(options.output)).look())
            text = _json(status, indent=2) if options.json else "\n".join(status_lines(status))
            print(text, flush=True)
        else:
            observer = _wait_for_output(options.output, options.watch)
            status = _watch(observer, options.watch, options.json)
        return UNREADABLE if status.unreadable else TOLD
    except UserError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return exit_codes.of_mistake(error)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except OSError as error:
        print(f"failed: {options.output}: {one_line(error)}", file=sys.stderr)
        return UNREADABLE


def _wait_for_output(directory: str, seconds: float) -> Observer:
    """Waits for an output to be there, for a while.

    Raises:
      UserError: there still is none.
    """
    until = time.monotonic() + _BEGIN_SECONDS
    said = False
    while True:
        try:
            return Observer(open_finished(directory))
        except NoOutputError:
            if time.monotonic() > until and not is_announced(directory):
                raise
        if not said:
            said = True
            if is_announced(directory):
                print(f"{directory}: {_ANNOUNCED}", file=sys.stderr, flush=True)
                continue
            wait = f"waiting up to {_BEGIN_SECONDS:.0f} s for a run to begin there"
            print(f"{directory}: {wait}", file=sys.stderr, flush=True)
        time.sleep(min(seconds, 1.0))


def _watch(observer: Observer, seconds: float, in_json: bool) -> Status:
    """Shows the state again and again until no run is at work; returns the last one.

    Where none is at work at first it looks for a while whether one begins, and shows it even if
    that has ended by the next look.
    """
    shown = _Shown(in_json)
    status = tell(observer.look())
    shown.show(status)
    looks = 0 if status.at_work or is_announced(status.output) else _LOOKS_FOR_ANOTHER
    if looks and sys.stdout.isatty():
        print(f"looking for {looks * seconds:.0f} s whether a run begins", file=sys.stderr)
    first = status.run
    while status.at_work or looks > 0 or is_announced(status.output):
        if streams.reader_is_gone():
            break
        time.sleep(seconds)
        status = tell(observer.look())
        if status.at_work or looks <= 0:
            looks = 0
            shown.show(status)
        elif status.run != first:
            shown.show(status)
            break
        elif not is_announced(status.output):
            looks -= 1
    return status


class _Shown:
    """What is shown on stdout: in place on a terminal, else what changes, and one a minute."""

    def __init__(self, in_json: bool):
        self._in_json = in_json
        self._in_place = sys.stdout.isatty() and not in_json
        self._up = ""
        self._last: tuple[object, ...] = ()
        self._when = 0.0

    def show(self, status: Status) -> None:
        """Shows a state, in place of the one before, or after it if it has changed."""
        counts = _what_counts(status)
        is_news = counts != self._last or time.monotonic() - self._when >= _LINE_SECONDS
        if not (self._in_place or is_news):
            return
        self._last, self._when = counts, time.monotonic()
        lines = status_lines(status)
        if self._in_json:
            text = _json(status)
        elif not self._in_place:
            text = "\n".join([*lines, *([""] if status.at_work else [])])
        else:
            if status.at_work:  # a line that wraps would put the next one in a wrong place
                width = shutil.get_terminal_size().columns - 1
                lines = [line[:width] for line in lines]
            text = "\n".join(lines)
            streams.controlling(sys.stdout).write(self._up)
            self._up = f"\x1b[{len(lines)}F\x1b[J"
        print(text, flush=True)


def _what_counts(status: Status) -> tuple[object, ...]:
    """What a log is told at once: not that time passes, nor that a lease was renewed."""
    contents = status.parts, status.rows, status.errors, status.unreadable
    run = status.run and (status.run.run_id, status.run.total, status.run.done)
    return (status.state, run, *contents)


def _json(status: Status, indent: int | None = None) -> str:
    return json.dumps(status_json(status), indent=indent)


def _with_seconds(words: list[str]) -> list[str]:
    """Gives a bare `--watch` its seconds, so that `--watch OUT` means what it says.

    >>> _with_seconds(["--watch", "out/"]), _with_seconds(["--watch", "5", "out/"])
    (['--watch=2.0', 'out/'], ['--watch', '5', 'out/'])
    """
    return [
        f"{word}={_WATCH_SECONDS}"
        if word == "--watch" and not re.fullmatch(r"-?[\d.]+", after)
        else word
        for word, after in itertools.zip_longest(words, words[1:], fillvalue="")
    ]


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text}: give seconds above 0")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "status",
        description="How far a run is: at work or over, on any runner, from the output alone.",
        epilog="Exit codes: 0 told, whatever the state; 1 a file is damaged; 2 a mistake in the "
        "command; 130 interrupted.",
    )
    parser.add_argument("output", metavar="OUT", help="output directory of a run")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.add_argument(
        "--watch",
        type=_seconds,
        metavar="SECONDS",
        help=f"look again every SECONDS (default: {_WATCH_SECONDS:g}) until the run ends",
    )
    return parser
