"""`python -m pipeline.status OUT`: how far a run is, from its output directory alone.

The exit code is 0 if the state could be told, whatever it is; 1 if a file is damaged (it is named
and not counted); 2 for a mistake in the command; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import json
import math
import os
import re
import shutil
import sys
import time
from typing import Any

from pipeline.options import model
from pipeline.output.directory import open_finished
from pipeline.output.observer import Observer, Run
from pipeline.output.state import State, Status, tell
from pipeline.terminal import report
from transforms.errors import UserError, one_line

TOLD, UNREADABLE, MISTAKE, INTERRUPTED = 0, 1, 2, 130

_WATCH_SECONDS = 2.0

_WORDS: dict[State, str] = {
    "running": "running",
    "publishing": "publishing: what was computed replaces what was there",
    "interrupted": "interrupted: run the same command again to continue",
    "finished": "finished",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        options = _parser().parse_args(_with_seconds(sys.argv[1:] if argv is None else argv))
        watcher = Observer(open_finished(options.output))
        if options.watch is None:
            status = tell(watcher.look())
            text = _json(status, indent=2) if options.json else "\n".join(as_text(status))
            print(text, flush=True)
        else:
            status = _watch(watcher, options.watch, options.json)
        return UNREADABLE if status.unreadable else TOLD
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return TOLD
    except OSError as error:
        print(f"failed: {options.output}: {one_line(error)}", file=sys.stderr)
        return UNREADABLE


def _watch(watcher: Observer, seconds: float, as_json: bool) -> Status:
    """Shows the state again and again until no run is at work; returns the last one."""
    in_place = sys.stdout.isatty() and not as_json
    up = ""
    while True:
        status = tell(watcher.look())
        is_last = status.state not in ("running", "publishing")
        if as_json:
            text = _json(status)
        elif not in_place:
            text = "\n".join([*as_text(status), *([] if is_last else [""])])
        else:
            lines = as_text(status)
            if not is_last:  # a line that wraps would put the next one in a wrong place
                width = shutil.get_terminal_size().columns - 1
                lines = [line[:width] for line in lines]
            text = up + "\n".join(lines)
            up = f"\x1b[{len(lines)}F\x1b[J"
        print(text, flush=True)
        if is_last:
            return status
        time.sleep(seconds)


def _json(status: Status, indent: int | None = None) -> str:
    return json.dumps(as_json(status), indent=indent)


def as_json(status: Status) -> dict[str, Any]:
    """One flat object: what is told of the run lies beside the rest, null where there is none."""
    told = dataclasses.asdict(status)
    live = told.pop("live")
    if status.lease:
        told["lease"] |= {
            "live": live,
            "since": report.iso(status.lease.since),
            "renewed": report.iso(status.lease.renewed),
        }
    run = told.pop("run") or dict.fromkeys(field.name for field in dataclasses.fields(Run))
    return told | run


def as_text(status: Status) -> list[str]:
    """The lines for people."""
    lines = [("output", status.output), ("state", _state(status))]
    if status.continue_with:
        lines.append(("", status.continue_with))
    lines.append(("lease", _lease(status)))
    if status.run:
        lines += _run_lines(status, status.run)
    if status.last_commit:
        ago = _ago(datetime.datetime.fromisoformat(status.last_commit).timestamp())
        lines.append(("last commit", f"{status.last_commit}, {ago}"))
    contents = [
        report.count(status.parts, "part"),
        report.count(status.rows, "row"),
        _errors(status.errors, "", status.errors_by_type),
    ]
    lines.append(("contents", ", ".join(contents)))
    size = f"{status.disk_bytes / 1e6:,.2f} MB in {report.count(status.files, 'file')}"
    lines.append(("disk used", size))
    lines += [("unreadable", text) for text in status.unreadable]
    return [f"{name:12} {text}" for name, text in lines]


def _state(status: Status) -> str:
    words, run = _WORDS[status.state], status.run
    if status.state == "running" and run is None:
        return f"{words}: planning, finishing or compacting"
    if status.state == "running" and run and run.done == run.total:
        return f"{words}: all images are done; checking and publishing"
    if status.state == "finished" and run and not run.succeeded:
        return f"{words}, with more errors than --max_error_rate allows"
    if status.continue_with and run and "--overwrite" in run.command.split():
        return f"{words}, but without --overwrite"
    return words


def _lease(status: Status) -> str:
    if status.lease is None:
        return "none"
    renewed = _ago(status.lease.renewed)
    return f"{'live' if status.live else 'dead'}: {status.lease.who}, renewed {renewed}"


def _run_lines(status: Status, run: Run) -> list[tuple[str, str]]:
    share = f" ({run.done / run.total:.1%})" if run.total else ""
    images = f"{run.done:,} of {run.total:,} done{share}, {run.done_before:,} before this run"
    rate = "not known yet"
    if run.images_per_second:
        rate = f"{run.images_per_second:,.1f} images/s"
    if status.seconds_left:
        rate += f", about {_duration(status.seconds_left)} left"
    ended = f", ended {run.ended}" if run.ended else ""
    lines = [("run", f"{run.run_id}, started {run.started}{ended}"), ("images", images)]
    if run.run_errors_by_type is not None:
        count = sum(run.run_errors_by_type.values())
        lines.append(("errors", _errors(count, " of this run", run.run_errors_by_type)))
    return [*lines, ("rate", rate)]


def _errors(count: int, whose: str, types: dict[str, int]) -> str:
    """How many there are, and of which types.

    >>> _errors(1203, "", {"CorruptImageError": 1200, "NotAnImageError": 3})
    '1,203 errors: 1,200 CorruptImageError, 3 NotAnImageError'
    """
    listed = ", ".join(f"{number:,} {name}" for name, number in types.items())
    return report.count(count, "error") + whose + (f": {listed}" if listed else "")


def _ago(since: float) -> str:
    return f"{_duration(max(0.0, time.time() - since))} ago"


def _duration(seconds: float) -> str:
    """A time for people.

    >>> _duration(59), _duration(3599), _duration(100_000)
    ('59 s', '59 min', '27 h 46 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


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
    parser = model.Parser(
        prog="python -m pipeline.status",
        description="How far a run is: at work or over, on any runner, from the output alone.",
        epilog="Exit codes: 0 told, whatever the state; 1 a file is damaged; 2 a mistake in the "
        "command; 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument("output", metavar="OUT", help="output directory of pipeline.run")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.add_argument(
        "--watch",
        type=_seconds,
        metavar="SECONDS",
        help=f"look again every SECONDS (default: {_WATCH_SECONDS:g}) until the run ends",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
