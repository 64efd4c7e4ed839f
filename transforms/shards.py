"""Image refs to shards: the unit of work, of retry and of commit.

A stable hash spreads files over `ceil(n / rows_per_file)` shards, each sorted by id; a container
file is cut, in order, into equal shards of at most `rows_per_file` records. Where several shards
are worked on at once, there are a few more, so that all have the same to do. The same refs always
make the same shards with the same names, so a retry finds what was committed.

The shards are planned once, where the job is launched, and lie as Parquet row groups beside the
output; what travels through Beam is a `ShardPointer` of a few bytes. So a million refs cost the
runner nothing, and the plan can be shown before the work starts.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage
from transforms.refs import ImageRef
from transforms.storage.retries import retrying

SHARDS_PER_PLAN_FILE = 256

# Smaller ones are not made just to have several at once.
_MIN_ROWS = 256

_GENERATION = b"generation"

_REF_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("version", pa.string()),
        ("size", pa.int64()),
        ("record_index", pa.int64()),
        ("offset", pa.int64()),
        ("label", pa.string()),
        ("problem", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Shard:
    """An ordered list of image refs that is committed as one part, or not at all.

    Attributes:
      refs: the images.
      generation: "" for a shard that is added to an output. One that replaces rows has the
        output's generation, so that its name differs from that of any part that it replaces.
    """

    refs: tuple[ImageRef, ...]
    generation: str = ""

    @property
    def name(self) -> str:
        """16 hexadecimal digits that follow from the refs' ids and versions."""
        digest = hashlib.sha256(self.generation.encode())
        for ref in self.refs:
            digest.update(f"{ref.id}\0{ref.version}\n".encode())
        return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True, slots=True)
class ShardPointer:
    """Where a planned shard lies.

    Attributes:
      plan: Parquet file with the refs of up to 256 shards.
      row_group: the shard's row group in it.
      name: the shard's name.
      size: number of refs.
    """

    plan: str
    row_group: int
    name: str
    size: int


def group_into_shards(
    refs: Iterable[ImageRef], rows_per_file: int, generation: str = "", at_once: int = 1
) -> list[Shard]:
    """Groups refs into shards of about `rows_per_file` images.

    Args:
      refs: the images.
      rows_per_file: images in a shard: about, of files; at most, of a container's records.
      generation: of the shards.
      at_once: how many shards are worked on at a time; where there are enough images, the number of
        shards is a multiple of it.

    >>> refs = [ImageRef(id=str(i), uri=str(i), version="") for i in range(10)]
    >>> sum(len(shard.refs) for shard in group_into_shards(refs, 3))
    10
    """
    files: list[ImageRef] = []
    containers: defaultdict[str, list[ImageRef]] = defaultdict(list)
    for ref in refs:
        (containers[ref.uri] if ref.is_record else files).append(ref)
    count = _shard_count(len(files), rows_per_file, at_once)
    buckets: list[list[ImageRef]] = [[] for _ in range(count)]
    for ref in files:
        buckets[_bucket(ref.id, len(buckets))].append(ref)
    shards = [Shard(tuple(sorted(bucket, key=_by_id)), generation) for bucket in buckets if bucket]
    for uri in sorted(containers):
        records = sorted(containers[uri], key=_by_record)
        count = _shard_count(len(records), rows_per_file, math.ceil(at_once / len(containers)))
        rows = math.ceil(len(records) / count)
        cuts = range(0, len(records), rows)
        shards.extend(Shard(tuple(records[at : at + rows]), generation) for at in cuts)
    return shards


def write_plan(shards: Sequence[Shard], directory: str, prefix: str) -> list[ShardPointer]:
    """Writes the shards' refs as `<prefix>-<n>.parquet` in `directory`; returns where each lies."""
    pointers: list[ShardPointer] = []
    for number, first in enumerate(range(0, len(shards), SHARDS_PER_PLAN_FILE)):
        chunk = shards[first : first + SHARDS_PER_PLAN_FILE]
        path = storage.join(directory, f"{prefix}-{number:05d}.parquet")
        storage.write_atomically(path, functools.partial(_write, chunk))
        pointers.extend(
            ShardPointer(path, row_group, shard.name, len(shard.refs))
            for row_group, shard in enumerate(chunk)
        )
    return pointers


def read_shard(pointer: ShardPointer) -> Shard:
    """Reads a planned shard back."""

    def read() -> Shard:
        with storage.arrow_input(pointer.plan) as file:
            return _read_row_group(pq.ParquetFile(file), pointer.row_group)

    return retrying(read)


def read_plan(path: str) -> list[Shard]:
    """Reads all shards of a file that `write_plan` wrote."""
    with storage.arrow_input(path) as file:
        parquet = pq.ParquetFile(file)
        return [_read_row_group(parquet, at) for at in range(parquet.num_row_groups)]


def continue_plan(
    refs: Iterable[ImageRef],
    earlier: Iterable[Shard],
    rows_per_file: int,
    generation: str = "",
    at_once: int = 1,
) -> list[Shard]:
    """`group_into_shards`, keeping the shards of an earlier plan that are still wholly to do.

    A worker that outlives its killed launcher for a moment may still commit one of them: as the
    shard keeps its name, that is the same part and not a second one with the same images.
    """
    left = {ref.id: ref for ref in refs}
    kept = []
    for shard in earlier:
        fits = shard.generation == generation and len(shard.refs) <= 2 * rows_per_file
        if fits and all(left.get(ref.id) == ref for ref in shard.refs):
            kept.append(shard)
            for ref in shard.refs:
                del left[ref.id]
    return kept + group_into_shards(left.values(), rows_per_file, generation, at_once)


def _read_row_group(parquet: pq.ParquetFile, row_group: int) -> Shard:
    generation = (parquet.schema_arrow.metadata or {}).get(_GENERATION, b"").decode()
    table = parquet.read_row_group(row_group)
    columns = [table.column(name).to_pylist() for name in _REF_SCHEMA.names]
    return Shard(tuple(ImageRef(*row) for row in zip(*columns, strict=True)), generation)


def _write(shards: Sequence[Shard], local_path: str) -> None:
    schema = _REF_SCHEMA.with_metadata({_GENERATION: shards[0].generation})
    with pq.ParquetWriter(local_path, schema, compression="zstd") as writer:
        for shard in shards:
            columns = [
                pa.array([getattr(ref, field.name) for ref in shard.refs], field.type)
                for field in _REF_SCHEMA
            ]
            table = pa.table(columns, schema=schema)
            writer.write_table(table, row_group_size=max(1, len(shard.refs)))


def _shard_count(images: int, rows_per_file: int, at_once: int) -> int:
    """The least multiple of `at_once` that suffices, if that does not make the shards too small."""
    fewest = math.ceil(images / rows_per_file)
    even = math.ceil(fewest / at_once) * at_once
    return max(fewest, min(even, images // _MIN_ROWS))


def _bucket(image_id: str, buckets: int) -> int:
    digest = hashlib.blake2b(image_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets


def _by_id(ref: ImageRef) -> str:
    return ref.id


def _by_record(ref: ImageRef) -> int:
    return ref.record_index or 0
