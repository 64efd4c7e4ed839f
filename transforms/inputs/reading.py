"""Image refs to encoded images: files of their own, or the records of a container in order."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence

from transforms import storage
from transforms.errors import ImageTooLargeError, RecordError
from transforms.images.decode import ImageSpec
from transforms.inputs.examples import Example, ExampleParser, ExampleSpec
from transforms.inputs.tfrecords import read_records, where
from transforms.refs import ImageRef, content_version, is_content_version
from transforms.shards import Shard
from transforms.storage.retries import retrying


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """What was read of one ref: the encoded image, its kept values and the version that it had."""

    data: bytes
    version: str
    kept: tuple[object, ...] = ()


# Gives what is stored of an image, or raises what is wrong with it.
Encoded = Callable[[], Stored]


def file_readers(refs: Sequence[ImageRef], spec: ImageSpec) -> list[Encoded]:
    """One for each ref to a file of its own; reading is tried again after transient errors."""
    return [functools.partial(retrying, functools.partial(_read_file, ref, spec)) for ref in refs]


def _read_file(ref: ImageRef, spec: ImageSpec) -> Stored:
    version, limit = ref.version, spec.max_file_bytes
    with storage.open_input(ref.uri) as file:
        if storage.is_local(ref.uri):
            status = os.fstat(file.fileno())
            version = storage.version(status)
            limit = min(limit, status.st_size)  # Python makes room for as much as it is asked for
        data = file.read(limit + 1)
    if is_content_version(ref.version):
        version = content_version(data)
    if len(data) > spec.max_file_bytes:
        raise ImageTooLargeError(f"more than --max_file_bytes {spec.max_file_bytes} bytes")
    return Stored(data, version)


class RecordReader:
    """Reads a shard's records in order, in one thread: a container is one stream."""

    def __init__(self, shard: Shard, spec: ImageSpec, examples: ExampleSpec):
        self._records: Iterator[bytes | Exception] | None = None
        if shard.refs[0].is_record:
            uri = shard.refs[0].uri
            self._parser = ExampleParser(examples)
            self._records = read_records(uri, shard.refs, spec.max_file_bytes)
            self._thread = concurrent.futures.ThreadPoolExecutor(1, "records")

    def start(
        self, refs: Sequence[ImageRef], then: Callable[[list[Encoded], float], None]
    ) -> concurrent.futures.Future[None]:
        """Reads the next records in the thread, then calls `then` with them and the seconds."""
        return self._thread.submit(self._read, refs, then)

    def _read(self, refs: Sequence[ImageRef], then: Callable[[list[Encoded], float], None]) -> None:
        assert self._records is not None
        started = time.perf_counter()
        records = [next(self._records) for _ in refs]
        parsed = iter(self._parser.parse([r for r in records if isinstance(r, bytes)]))
        results: list[Example | Exception] = []
        for ref, record in zip(refs, records, strict=True):
            result = next(parsed) if isinstance(record, bytes) else record
            if isinstance(record, bytes) and isinstance(result, RecordError):
                result = RecordError(f"{where(ref)}: {result}")
            results.append(result)
        encoded: list[Encoded] = [
            functools.partial(_example_or_raise, ref, result)
            for ref, result in zip(refs, results, strict=True)
        ]
        then(encoded, time.perf_counter() - started)

    def close(self) -> None:
        """Stops reading."""
        if self._records is not None:
            self._thread.shutdown(cancel_futures=True)
            self._records.close()  # type: ignore[attr-defined]  # it is a generator


def _example_or_raise(ref: ImageRef, result: Example | Exception) -> Stored:
    if isinstance(result, Exception):
        raise result
    return Stored(result.image, ref.version, result.kept)
