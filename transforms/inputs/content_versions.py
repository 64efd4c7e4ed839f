"""Versions that follow from an image's bytes.

A file that was copied or touched keeps its version, and one that was changed within a clock tick
gets another. It costs reading every input when the job is launched.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Iterable

from transforms import storage
from transforms.inputs.tfrecord_file import read_records
from transforms.machine.cores import available_cores
from transforms.refs import ImageRef, content_version

_LEAST_READ_THREADS = 4


def with_content_versions(refs: Iterable[ImageRef], max_bytes: int) -> list[ImageRef]:
    """The refs with versions that follow from their bytes, in the same order.

    What cannot be read keeps the version that the listing gave it: reading it later says why.

    Args:
      refs: sorted by file, the records of a file in order.
      max_bytes: what is larger is not read, as it will be an error row.
    """
    with concurrent.futures.ThreadPoolExecutor(max(_LEAST_READ_THREADS, available_cores())) as pool:
        groups = itertools.groupby(refs, key=lambda ref: (ref.uri, ref.is_record))
        listed = [list(group) for _, group in groups]
        return list(itertools.chain(*pool.map(lambda group: _read(group, max_bytes), listed)))


def _read(refs: list[ImageRef], max_bytes: int) -> list[ImageRef]:
    if refs[0].is_record:
        found: Iterable[bytes | Exception] = read_records(refs[0].uri, refs, max_bytes)
    else:
        found = [_read_file(ref, max_bytes) for ref in refs]
    return [
        dataclasses.replace(ref, version=content_version(data)) if isinstance(data, bytes) else ref
        for ref, data in zip(refs, found, strict=True)
    ]


def _read_file(ref: ImageRef, max_bytes: int) -> bytes | Exception:
    if ref.problem or (ref.size or 0) > max_bytes:
        return ValueError(ref.problem)
    try:
        return storage.read(ref.uri, max_bytes + 1)[0]
    except OSError as error:
        return error
