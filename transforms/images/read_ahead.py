"""A shard to image batches, read and decoded ahead of the model by two pools of threads.

Many threads read, and hand what they have read to as many as there are cores, which write pixels
straight into the batch's array. One bad image is one error row, never a failed batch.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from transforms.batches import BatchPlace, ImageBatch, ImageRow, StageSeconds
from transforms.errors import ErrorRow, Stage, UnusableInputError, error_row
from transforms.images.budget import ByteBudget
from transforms.images.buffer import PixelBuffer
from transforms.images.decode import decode_image
from transforms.images.spec import ImageSpec
from transforms.inputs.encoded import EncodedImage, Read
from transforms.inputs.examples import ExampleSpec
from transforms.inputs.reading import open_reader
from transforms.machine.cores import available_cores
from transforms.machine.shares import memory_share
from transforms.refs import ImageRef
from transforms.shards import Shard

# Batches that are being decoded while the model works on one, at first. When the model has to wait
# for a batch although the next one is ready, so that a few slow images hold it up, it becomes one
# more.
READ_AHEAD_BATCHES = 2
MAX_READ_AHEAD_BATCHES = 8

# Threads that read, for each core: on an object store a file takes longer to come than to decode.
# They do not decode, too: where 16 threads took turns on 2 cores, an image cost 8 % more CPU time.
READERS_PER_CORE = 8

# Encoded images in memory, for each core, that are read or wait to be decoded.
ENCODED_PER_CORE = 16

# Of this process's share of the memory, whatever the number of bundles: for the batches that are
# decoded ahead or in the model, and for encoded images on their way into one.
BATCHES_SHARE = 1 / 8
ENCODED_SHARE = 1 / 16

# What an image is taken for whose size no listing has told.
_USUAL_BYTES = 2**20


def decode_shard(
    shard: Shard,
    spec: ImageSpec,
    batch_size: int,
    examples: ExampleSpec | None = None,
) -> Iterator[ImageBatch]:
    """Decodes a shard's images into batches, a few batches ahead of the consumer.

    How far ahead depends on the room that other shards leave: a shard waits for it only while it
    holds none, and gives that of a batch back when the next one is asked for.

    Args:
      shard: what to decode.
      spec: size, pixels and limits.
      batch_size: images in a batch, at most.
      examples: how to read records; needed only if the shard holds any.

    Yields:
      batches in the order of the shard; together they account for each of its refs once.
    """
    reader = open_reader(shard.refs, spec.max_file_bytes, examples or ExampleSpec())
    pending: collections.deque[_PendingBatch] = collections.deque()
    name, size = shard.name, len(shard.refs)
    ahead = READ_AHEAD_BATCHES
    room = _pools().batches
    try:
        for start in range(0, size, batch_size):
            refs = shard.refs[start : start + batch_size]
            needs = _bytes(refs, spec)
            while not room.acquire(needs, blocking=not pending):  # others have it
                yield from _handed_on(pending.popleft(), room)
            batch = _PendingBatch(BatchPlace(name, size, start, len(refs)), refs, spec, needs)
            pending.append(batch)
            batch.reading = reader.start(refs, batch.start)
            if len(pending) > ahead:
                oldest = pending.popleft()
                if pending[0].is_ready and not oldest.is_ready and ahead < MAX_READ_AHEAD_BATCHES:
                    ahead += 1
                yield from _handed_on(oldest, room)
        while pending:
            yield from _handed_on(pending.popleft(), room)
    finally:
        for batch in pending:
            batch.cancel()
            room.release(batch.needs)
        reader.close()


def _handed_on(batch: _PendingBatch, room: ByteBudget) -> Iterator[ImageBatch]:
    """The batch, and its room back when the consumer is done with it."""
    try:
        yield batch.result()
    finally:
        room.release(batch.needs)


def _bytes(refs: Sequence[ImageRef], spec: ImageSpec) -> int:
    """What a batch of these takes in memory, at most.

    Encoded images are held with it where they are read before it is their turn, as a container's
    records are, or where the model decodes them.
    """
    pixels = PixelBuffer.most_bytes(len(refs), spec)
    holds_encoded = refs[0].is_record or spec.kind != "pixels"
    return pixels + (sum(_encoded_bytes(ref, spec) for ref in refs) if holds_encoded else 0)


def _encoded_bytes(ref: ImageRef, spec: ImageSpec) -> int:
    return min(_USUAL_BYTES if ref.size is None else ref.size, spec.max_file_bytes)


@dataclasses.dataclass(frozen=True, slots=True)
class _Outcome:
    """What one thread made of one ref: a row whose pixels are in the buffer, or an error row."""

    row: ImageRow | None
    error: ErrorRow | None
    read_seconds: float
    decode_seconds: float


class _PendingBatch:
    """A batch whose images are being read and decoded.

    Attributes:
      refs: of its images.
      reading: what reads them and then calls `start`, where that is one thread for all; None: each
        is read by itself.
      needs: bytes that it takes in memory, at most.
    """

    def __init__(self, place: BatchPlace, refs: Sequence[ImageRef], spec: ImageSpec, needs: int):
        self.refs = refs
        self.needs = needs
        self.reading: Future[None] | None = None
        self._read_seconds = 0.0
        self._place = place
        self._spec = spec
        self._buffer = PixelBuffer(len(refs), spec)
        self._decoding: list[Future[Future[_Outcome]]] = []

    def start(self, encoded: list[Read], read_seconds: float = 0.0) -> None:
        """Has the images decoded, each of what `encoded` gives for it."""
        self._read_seconds = read_seconds
        pools = _pools()
        self._decoding = [
            pools.readers.submit(self._read, position, ref, read, pools)
            for position, (ref, read) in enumerate(zip(self.refs, encoded, strict=True))
        ]

    @property
    def is_ready(self) -> bool:
        """Whether all images are decoded."""
        read = self.reading is None or self.reading.done()
        return read and all(image.done() and image.result().done() for image in self._decoding)

    def result(self) -> ImageBatch:
        """Waits for all images of the batch."""
        started = time.perf_counter()
        if self.reading is not None:
            self.reading.result()
        outcomes = [image.result().result() for image in self._decoding]
        waited = time.perf_counter() - started
        good = [position for position, outcome in enumerate(outcomes) if outcome.row]
        return ImageBatch(
            images=self._buffer.take(good),
            rows=tuple(outcome.row for outcome in outcomes if outcome.row),
            errors=tuple(outcome.error for outcome in outcomes if outcome.error),
            place=self._place,
            seconds=StageSeconds(
                read=self._read_seconds + sum(outcome.read_seconds for outcome in outcomes),
                decode=sum(outcome.decode_seconds for outcome in outcomes),
                wait=waited,
            ),
        )

    def cancel(self) -> None:
        if self.reading is not None:
            self.reading.cancel()
        for image in self._decoding:
            image.cancel()  # what is read already is decoded: that gives its room back

    def _read(self, position: int, ref: ImageRef, read: Read, pools: _Pools) -> Future[_Outcome]:
        """Reads an image and then has it decoded."""
        pools.images.acquire()
        holds = 0 if ref.problem else _encoded_bytes(ref, self._spec)
        pools.encoded.acquire(holds)
        started = time.perf_counter()
        stored: EncodedImage | Exception
        try:
            if ref.problem:
                raise UnusableInputError(ref.problem)
            stored = read()
            pools.encoded.release(holds - len(stored.data))  # what it has in truth
            holds = len(stored.data)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it costs this image only
            stored = failure
        seconds = time.perf_counter() - started
        try:
            return pools.decoders.submit(self._decode, position, ref, stored, holds, seconds, pools)
        except BaseException:  # no thread can be had, as at the end of the process
            pools.give_back(holds)
            raise

    def _decode(
        self,
        position: int,
        ref: ImageRef,
        stored: EncodedImage | Exception,
        holds: int,
        read_seconds: float,
        pools: _Pools,
    ) -> _Outcome:
        stage: Stage = "read"
        started = time.perf_counter()
        row, error = None, None
        try:
            if isinstance(stored, Exception):
                raise stored
            stage = "decode"
            if stored.version != ref.version:  # it changed after it was listed
                ref = dataclasses.replace(ref, version=stored.version)
            image = decode_image(stored.data, self._spec)
            self._buffer.put(position, image.pixels)
            warnings = stored.warnings + image.warnings
            row = ImageRow(ref, image.width, image.height, stored.kept, warnings)
        except Exception as failure:  # noqa: BLE001 - as above
            error = error_row(ref, stage, failure)
        finally:
            pools.give_back(holds)
        return _Outcome(row, error, read_seconds, time.perf_counter() - started)


@dataclasses.dataclass(frozen=True)
class _Pools:
    """Threads that read, threads that decode, and the room that they share with all bundles.

    Attributes:
      readers, decoders: the threads.
      images, encoded: room for encoded images between them, in number and in bytes.
      batches: room for batches, until the consumer is done with them.
    """

    readers: concurrent.futures.ThreadPoolExecutor
    decoders: concurrent.futures.ThreadPoolExecutor
    images: threading.Semaphore
    encoded: ByteBudget
    batches: ByteBudget

    def give_back(self, holds: int) -> None:
        """Gives back the room of an encoded image of so many bytes."""
        self.encoded.release(holds)
        self.images.release()


@functools.cache
def _pools() -> _Pools:
    """One set a process, shared by its bundle threads."""
    cores = available_cores()
    return _Pools(
        concurrent.futures.ThreadPoolExecutor(READERS_PER_CORE * cores, "read"),
        concurrent.futures.ThreadPoolExecutor(cores, "decode"),
        threading.Semaphore(ENCODED_PER_CORE * cores),
        ByteBudget(int(ENCODED_SHARE * memory_share())),
        ByteBudget(int(BATCHES_SHARE * memory_share())),
    )
