"""The first step of the fused stage: planned shards become image batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms import storage
from transforms.batches import METRICS_NAMESPACE, ImageBatch
from transforms.images.read_ahead import decode_shard
from transforms.images.spec import ImageSpec
from transforms.inputs.examples import ExampleSpec
from transforms.machine.tensorflow_import import import_tensorflow
from transforms.shards import ShardPointer, read_shard


class DecodeShards(beam.PTransform):
    """`ShardPointer`s to `ImageBatch`es: read, decode, resize, batch, with read-ahead.

    All batches of a shard come from one `process` call, in order, so that a fused consumer sees
    them in order and in one bundle. A shard whose part exists already is passed over: a retry or a
    second start does not compute it again.

    Args:
      spec: size, pixels and limits.
      batch_size: images in a batch, at most.
      examples: how to read records; needed only if there are any.
      part_path: from a shard's name to where its part lies (picklable); None never passes over.
      load_tensorflow: whether a worker imports TensorFlow before its first image, which takes
        seconds: only JPEGs can do without.
    """

    def __init__(
        self,
        spec: ImageSpec,
        batch_size: int = 32,
        examples: ExampleSpec | None = None,
        part_path: Callable[[str], str] | None = None,
        load_tensorflow: bool = False,
    ):
        super().__init__()
        self._dofn = _DecodeFn(spec, batch_size, examples, part_path, load_tensorflow)

    def expand(self, shards: beam.PCollection[ShardPointer]) -> beam.PCollection[ImageBatch]:
        """`ShardPointer`s to `ImageBatch`es."""
        return shards | "Decode" >> beam.ParDo(self._dofn).with_output_types(ImageBatch)


class _DecodeFn(beam.DoFn):
    def __init__(
        self,
        spec: ImageSpec,
        batch_size: int,
        examples: ExampleSpec | None,
        part_path: Callable[[str], str] | None,
        load_tensorflow: bool,
    ):
        self._load_tensorflow = load_tensorflow
        self._spec = spec
        self._batch_size = batch_size
        self._examples = examples
        self._part_path = part_path
        self._already_committed = Metrics.counter(METRICS_NAMESPACE, "shards_already_committed")
        self._read_ms = Metrics.distribution(METRICS_NAMESPACE, "read_batch_msecs")
        self._decode_ms = Metrics.distribution(METRICS_NAMESPACE, "decode_batch_msecs")
        self._wait_ms = Metrics.distribution(METRICS_NAMESPACE, "wait_for_batch_msecs")

    def setup(self) -> None:
        if self._load_tensorflow:
            import_tensorflow()

    def process(self, pointer: ShardPointer) -> Iterator[ImageBatch]:
        if self._part_path and storage.exists(self._part_path(pointer.name)):
            self._already_committed.inc()
            return
        shard = read_shard(pointer)
        for batch in decode_shard(shard, self._spec, self._batch_size, self._examples):
            self._read_ms.update(int(batch.seconds.read * 1000))
            self._decode_ms.update(int(batch.seconds.decode * 1000))
            self._wait_ms.update(int(batch.seconds.wait * 1000))
            yield batch
            del batch  # the next one may wait for its room
