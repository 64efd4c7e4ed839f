"""The last step of the fused stage: feature batches become committed parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms.batches import METRICS_NAMESPACE, FeatureBatch
from transforms.dataset.columns import PartFormat
from transforms.dataset.part import Part
from transforms.dataset.writer import IncompleteShardError, PartWriter


class CommitParts(beam.PTransform):
    """`FeatureBatch`es to `Part`s: a shard becomes durable when its last batch arrives.

    The batches of a shard must arrive in order and in one bundle. That is so where they come from
    one `process` call of a stage that is fused with this one; where it is not, the bundle fails
    with `IncompleteShardError` and nothing is committed.

    Args:
      output: directory of the parts, local or on a Beam filesystem.
      part_format: the columns.
      before_commit: called on the worker just before a part appears (picklable); what it raises
        fails the bundle.
    """

    def __init__(
        self,
        output: str,
        part_format: PartFormat,
        before_commit: Callable[[], None] | None = None,
    ):
        super().__init__()
        self._commit = _CommitFn(output, part_format, before_commit or _nothing)

    def expand(self, batches: beam.PCollection[FeatureBatch]) -> beam.PCollection[Part]:
        """`FeatureBatch`es to `Part`s."""
        return batches | "Commit" >> beam.ParDo(self._commit).with_output_types(Part)


def _nothing() -> None:
    pass


class _CommitFn(beam.DoFn):
    def __init__(self, output: str, part_format: PartFormat, before_commit: Callable[[], None]):
        self._output = output
        self._format = part_format
        self._before_commit = before_commit
        self._writer: PartWriter | None = None
        self._rows = Metrics.counter(METRICS_NAMESPACE, "rows")
        self._errors = Metrics.counter(METRICS_NAMESPACE, "error_rows")
        self._write_ms = Metrics.distribution(METRICS_NAMESPACE, "write_part_msecs")

    def setup(self) -> None:
        # A worker that is shut down, as another bundle failed, tears down what is still at work.
        self._at_work = threading.Lock()

    def start_bundle(self) -> None:
        self._discard()  # of a bundle that failed

    def process(self, batch: FeatureBatch) -> Iterator[Part]:
        with self._at_work:
            part = self._append(batch)
        if part is not None:
            self._rows.inc(part.rows)
            self._errors.inc(part.errors)
            self._write_ms.update(int(part.seconds["write"] * 1000))
            yield part

    def _append(self, batch: FeatureBatch) -> Part | None:
        """Adds the batch to its shard's part; the part, if that was its last one."""
        if self._writer is None:
            self._writer = PartWriter(self._output, self._format, batch.place, self._before_commit)
        self._writer.append(batch)
        if not self._writer.complete:
            return None
        part = self._writer.commit()
        self._writer = None
        return part

    def finish_bundle(self) -> None:
        if self._writer is not None:
            self._discard()
            raise IncompleteShardError(
                "a bundle ended in the middle of a shard: the runner does not fuse decoding, "
                "inference and commit into one stage"
            )

    def teardown(self) -> None:
        with self._at_work:
            self._discard()

    def _discard(self) -> None:
        if self._writer is not None:
            self._writer.discard()
            self._writer = None
