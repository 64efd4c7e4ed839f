"""The command line, as a person runs it."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


def run_command(*arguments: object, **popen: object) -> Finished:
    """Runs `python -m pipeline.run` as a person would, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.run", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        **popen,
    )
    return Finished(done.returncode, done.stdout, done.stderr)
