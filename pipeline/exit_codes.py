"""How a command ended, for schedulers and scripts."""

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


def of_mistake(error: ValueError) -> int:
    """The exit code of a command that refuses what it was asked for.

    Args:
      error: a `UserError`; one that is more than a mistake has an `exit_code`.
    """
    return getattr(error, "exit_code", MISTAKE)
