"""A look at some Examples of some files, spread over them: what features they have.

In a plain file a record can be found from any place; of a compressed one the first are taken.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import itertools
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from transforms.errors import RecordError
from transforms.inputs.examples import example_features
from transforms.inputs.kept import FeaturesSeen
from transforms.inputs.record_search import CRC, HEADER_BYTES, Effort, find_record, record_length
from transforms.inputs.tfrecord_file import Place, is_compressed, open_records, read_records, scan
from transforms.refs import ImageRef

# A few hundred show what a column's values are like, and cost some reads each.
EXAMPLES_LOOKED_AT = 256
FEW_EXAMPLES = 16
_FILES_LOOKED_AT = 16
_BYTES_LOOKED_AT = 2**26
_THREADS = 8


def look_at(paths: Sequence[str], examples: int = EXAMPLES_LOOKED_AT) -> FeaturesSeen:
    """The features of about so many Examples, from up to 16 of the files.

    What cannot be read is passed over.
    """
    if not paths:
        return FeaturesSeen([], "")
    spread = (paths[at * len(paths) // _FILES_LOOKED_AT] for at in range(_FILES_LOOKED_AT))
    files = list(dict.fromkeys(spread))
    where = files[0] if len(files) == 1 else f"{files[0]} and others"
    return FeaturesSeen(_features(files, max(1, examples // len(files))), where)


def _features(files: Sequence[str], each: int) -> Iterator[Any]:
    most = _BYTES_LOOKED_AT // len(files)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for records in pool.map(lambda path: list(_records(path, each, most)), files):
            for record in records:
                with contextlib.suppress(RecordError):  # too long: others show what they are like
                    features = example_features(record)
                    if features is not None:
                        yield features


def _records(path: str, count: int, most_bytes: int) -> Iterator[bytes]:
    """Up to so many whole records of a file, and not many more bytes than that."""
    with contextlib.suppress(OSError, EOFError, zlib.error):
        places = [place for place in _places(path, count, most_bytes) if place.length is not None]
        refs = [ImageRef("", path, "", place.length, 0, place.offset) for place in places]
        for record in read_records(path, refs, most_bytes):
            if isinstance(record, bytes):
                yield record
                most_bytes -= len(record)
            if most_bytes <= 0:
                return


def _places(path: str, count: int, most_bytes: int) -> Iterator[Place]:
    with open_records(path) as file:
        size = None if is_compressed(file) else file.seek(0, io.SEEK_END)
        first = next(iter(scan(path)), None)
        if first is None:
            return
        if size is None or size <= 2 * count * _bytes_of(first):  # one after the other
            places = itertools.islice(scan(path), count if size is None else 2 * count)
            yield from itertools.takewhile(lambda place: place.offset <= most_bytes, places)
            return
        effort = Effort(checked=most_bytes)
        end = 0
        for at in range(count):
            found = find_record(file, max(end, size * at // count), size, effort)
            if found is None:
                return
            file.seek(found)
            place = Place(found, record_length(file.read(HEADER_BYTES)))
            yield place
            end = found + _bytes_of(place)


def _bytes_of(place: Place) -> int:
    return place.lost or HEADER_BYTES + (place.length or 0) + CRC.size
