"""What the person sees while the job runs: images as they are done.

On the machine at hand its processes tell; elsewhere it is read from committed parts, the same for
any runner.
"""

from __future__ import annotations

import collections
import sys
import threading
import time
from types import TracebackType

import tqdm

from pipeline.output.directory import Output
from pipeline.terminal import streams
from transforms.machine import tally

_POLL_SECONDS = 0.5
_FIRST_LINE_SECONDS = 5.0
_LINE_SECONDS = 60.0

# The rate is that of the last so many seconds, so that it follows and does not jump.
_RATE_SECONDS = 60.0


class Progress:
    """A progress bar on a terminal, a plain line every minute elsewhere, on stderr.

    Args:
      output: watched for new parts.
      total: images that this run will account for.
      tally_directory: where the processes of this machine count; None: only parts tell.
    """

    def __init__(self, output: Output, total: int, tally_directory: str | None = None):
        self._output = Output(output.directory, dict(output.parts))
        self._total = total
        self._tally = tally_directory
        self._rows, self._errors = output.rows, output.errors
        self._seen = collections.deque([(time.monotonic(), 0)])
        self._most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._bar: tqdm.tqdm | None = None
        if sys.stderr.isatty():
            bar = streams.controlling(sys.stderr)  # nothing in it comes from outside
            self._bar = tqdm.tqdm(
                total=total, unit="image", dynamic_ncols=True, smoothing=0.05, file=bar
            )

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._bar is not None:
            if error is None:
                self._output.refresh()
            self._show()
            self._bar.close()

    def _watch(self) -> None:
        wait = min(_FIRST_LINE_SECONDS, _LINE_SECONDS)
        said = time.monotonic()
        while not self._stop.wait(_POLL_SECONDS):
            try:
                self._output.refresh()
            except (OSError, ValueError):
                continue  # a listing that fails is no reason to stop the job; the end reads it anew
            if self._bar is not None:
                self._show()
            elif time.monotonic() - said >= wait:
                said, wait = time.monotonic(), _LINE_SECONDS
                print(self._line(), file=sys.stderr, flush=True)

    def _done(self) -> tuple[int, int]:
        """Images that are done in this run, and how many of them are errors."""
        errors = self._output.errors - self._errors
        committed = self._output.rows - self._rows + errors
        if self._tally is None:
            return committed, errors
        rows, failed = tally.counted(self._tally)  # a shard that is done again counts again
        self._most = max(self._most, committed, min(rows + failed, self._total))
        return self._most, max(errors, failed)

    def _show(self) -> None:
        assert self._bar is not None
        done, errors = self._done()
        self._bar.set_postfix_str(f"{errors:,} errors", refresh=False)
        self._bar.update(done - self._bar.n)
        self._bar.refresh()

    def _line(self) -> str:
        done, errors = self._done()
        now = time.monotonic()
        self._seen.append((now, done))
        while now - self._seen[0][0] > _RATE_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        since, before = self._seen[0]
        rate = (done - before) / (now - since)
        left = "time left not known" if done else "no part yet"
        if rate > 0:
            left = f"{(self._total - done) / rate / 60:.0f} min left"
        return f"{done:,} of {self._total:,} images, {rate:.1f}/s, {errors:,} errors, {left}"
