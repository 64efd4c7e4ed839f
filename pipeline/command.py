"""`beam-image-features VERB …`: the installed command, one verb for each thing it does.

A verb's module is imported when it is asked for: some take seconds.
"""

from __future__ import annotations

import difflib
import sys
from typing import NoReturn

from pipeline import exit_codes, start
from pipeline.options import program
from pipeline.options.program import VERBS
from pipeline.terminal import streams


def end_with_verb() -> NoReturn:
    """Runs the verb that this process was started for, and ends the process."""
    start.end_process(main())


def main(argv: list[str] | None = None) -> int:
    """Runs the verb that the command line names; returns the exit code."""
    streams.outlast()
    argv = sys.argv[1:] if argv is None else argv
    first, *others = argv or [""]
    if argv == ["--version"] or (first in VERBS and others == ["--version"]):
        print(program.VERSION)
        return 0
    if first in VERBS:
        return start.begin(f"pipeline.{first}:{'command' if first == 'run' else 'main'}", others)
    if first in ("-h", "--help"):
        print(_help())
        return 0
    print(_what_is_wrong(first), file=sys.stderr)
    return exit_codes.MISTAKE


def _help() -> str:
    called = program.called()
    lines = [f"usage: {called} VERB [option ...]", "", program.VERSION + ", verbs:"]
    lines += [f"  {verb:{max(map(len, VERBS))}}  {what}" for verb, what in VERBS.items()]
    return "\n".join([*lines, "", f"The options of a verb: {called} VERB --help"])


def _what_is_wrong(first: str) -> str:
    if not first:
        return _help()
    if first.startswith("-"):
        flag = first.partition("=")[0]
        return f"error: {flag}: a verb comes first, write: {program.called()} run {flag} …"
    similar = difflib.get_close_matches(first, VERBS, n=1, cutoff=0.0)[0]
    return f"error: {first}: no such verb; did you mean {similar}? There are {', '.join(VERBS)}"
