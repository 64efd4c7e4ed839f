"""`python -m pipeline.run`: images to feature vectors or logits in Parquet.

Only parses, calls and gives the exit code: what is defined here lives in `__main__` and would not
unpickle on a worker.
"""

from __future__ import annotations

import sys
import traceback

from pipeline import interrupts, logs


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    logs.set_up(verbose="--verbose" in argv)
    from pipeline import job, options
    from transforms.errors import UserError, one_line

    with interrupts.noticed() as noticed:
        try:
            return job.run(options.parse(argv), argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return job.MISTAKE
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the exit code tells it
            if noticed.signal is not None:
                interrupts.leave(noticed.signal)
            traceback.print_exc()
            print(
                f"failed: {type(error).__name__}: {one_line(error)}"
                "\nwhat is committed stays; the same command continues",
                file=sys.stderr,
            )
            return job.FAILED


if __name__ == "__main__":
    sys.exit(main())
