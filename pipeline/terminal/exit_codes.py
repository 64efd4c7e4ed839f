"""How a command ended, for schedulers and scripts."""

from __future__ import annotations

from pipeline.output.lease import OutputBusyError
from pipeline.planning.plan import LimitError
from transforms.errors import UserError

DONE = 0
FAILED = 1
"""The run, or more of its images than `--max_error_rate`; of `verify` and `inspect`, a check."""
MISTAKE = 2
"""In the command or its inputs; nothing was written."""
BUSY = 3
"""Another run is at work on the output; nothing was written."""
REFUSED = 4
"""A safety limit such as `--max_gone_rate` refused it; nothing was changed."""
INTERRUPTED = 130
"""Ctrl-C; 143 after SIGTERM."""


def of_mistake(error: UserError) -> int:
    """The exit code of a command that refuses what it was asked for."""
    if isinstance(error, OutputBusyError):
        return BUSY
    return REFUSED if isinstance(error, LimitError) else MISTAKE
