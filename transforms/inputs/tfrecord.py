"""A kind of input: TFRecord files of `tf.Example`s, each record an image."""

from __future__ import annotations

import concurrent.futures
import functools
import time
from collections.abc import Callable, Sequence

from transforms.errors import InputChangedError, RecordError
from transforms.inputs import files
from transforms.inputs.encoded import EncodedImage, ListedFile, Read
from transforms.inputs.examples import MAX_ID_BYTES, ExampleSpec, example_ids, parse_example
from transforms.inputs.patterns import FoundFile
from transforms.inputs.tfrecord_file import Place, read_records, scan, where
from transforms.refs import ImageRef
from transforms.storage.retries import retrying


def list_refs(
    file: FoundFile, label: str | None, id_key: str | None = None, max_file_bytes: int = 2**28
) -> ListedFile:
    """The records of a file; the file itself where it cannot be read: reading it says why.

    Args:
      file: as the listing found it.
      label: of all its images.
      id_key: feature of the Examples that names their images; None: `FILE#INDEX`.
      max_file_bytes: of a record; a larger one is not read for its id.
    """
    refs: list[ImageRef] = []
    lost = 0

    def records() -> list[tuple[Place, str | None]]:
        if id_key:
            return list(example_ids(file.uri, id_key, max_file_bytes))
        return [(place, "") for place in scan(file.uri)]

    try:
        for index, (place, value) in enumerate(retrying(records)):
            problem = None
            if value is None:
                problem = (
                    f"record {index} has no single UTF-8 or int64 id of at most {MAX_ID_BYTES:,} "
                    f"bytes in feature {id_key!r}"
                )
            image_id = value or f"{file.uri}#{index}"
            at, length = place.offset, place.length
            refs.append(
                ImageRef(image_id, file.uri, file.version, length, index, at, label, problem)
            )
            lost += place.lost
    except (OSError, InputChangedError):
        return ListedFile(files.list_refs(file, label).refs, file.size or 0)
    return ListedFile(refs, lost or None)


def open_reader(refs: Sequence[ImageRef], max_bytes: int, examples: ExampleSpec) -> RecordReader:
    """Reads the records of one file."""
    return RecordReader(refs, max_bytes, examples)


class RecordReader:
    """Reads records in order, in one thread: a container is one stream."""

    def __init__(self, refs: Sequence[ImageRef], max_bytes: int, examples: ExampleSpec):
        self._spec = examples
        self._records = read_records(refs[0].uri, refs, max_bytes)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "records")

    def start(
        self, refs: Sequence[ImageRef], then: Callable[[list[Read], float], None]
    ) -> concurrent.futures.Future[None]:
        """Reads the next records in the thread, then calls `then`."""
        return self._thread.submit(self._read, refs, then)

    def close(self) -> None:
        """Stops reading."""
        self._thread.shutdown(cancel_futures=True)
        self._records.close()

    def _read(self, refs: Sequence[ImageRef], then: Callable[[list[Read], float], None]) -> None:
        started = time.perf_counter()
        records = [next(self._records) for _ in refs]
        reads: list[Read] = [
            functools.partial(_parsed, ref, record, self._spec)
            for ref, record in zip(refs, records, strict=True)
        ]
        then(reads, time.perf_counter() - started)


def _parsed(ref: ImageRef, record: bytes | Exception, spec: ExampleSpec) -> EncodedImage:
    if isinstance(record, Exception):
        raise record
    try:
        example = parse_example(record, spec)
    except RecordError as error:
        raise RecordError(f"{where(ref)}: {error}") from None
    return EncodedImage(example.image, ref.version, example.kept, example.warnings)
