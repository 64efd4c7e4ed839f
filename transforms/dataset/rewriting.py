"""Parts made of parts: some rows left out, or several small ones gathered in one.

No row changes on the way: its values are copied from Parquet to Parquet.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms import storage
from transforms.dataset.layout import ERRORS_DIRECTORY, part_path
from transforms.dataset.own_files import parquet_input
from transforms.dataset.part import Part, read_footer, read_part
from transforms.dataset.warned import count_by_kind, read_warnings, write_warnings
from transforms.dataset.writer import ROW_GROUP_ROWS, open_parquet, write_errors, write_footer
from transforms.errors import ERROR_SCHEMA


def copy_parts(
    sources: Sequence[str], target: str, without: Collection[str] = (), generation: str = ""
) -> Part | None:
    """Writes the rows and error rows of some parts as one new part.

    Args:
      sources: paths of parts of one fingerprint, each with its `_errors/` beside it.
      target: directory of the new part.
      without: ids of rows and error rows to leave out.
      generation: goes into the new part's name, as in `Shard`.

    Returns:
      the new part; None if nothing is left, and then there is none.

    Raises:
      OSError, ValueError: a source cannot be read or the target cannot be written.
    """
    before = [read_part(path) for path in sources]
    shard = _shard_name([part.shard for part in before], without, generation)
    left_out = pa.array(sorted(without), pa.string())
    errors = _errors(sources, before, left_out)
    pending = storage.PendingFile(part_path(target, shard))
    try:
        schema, program = _schema_and_program(sources[0])
        parquet = open_parquet(pending.local_path, schema)
        rows = 0
        for table in _gathered(_row_groups(sources, left_out)):
            parquet.write_table(table, row_group_size=max(1, len(table)))
            rows += len(table)
        seconds: collections.Counter[str] = collections.Counter()
        for part in before:
            seconds.update(part.seconds)
        errors_file = write_errors(target, shard, errors) if len(errors) else None
        fingerprint = before[0].fingerprint
        versions = before[0].versions if len({str(p.versions) for p in before}) == 1 else {}
        new = Part(shard, rows, len(errors), errors_file, dict(seconds), fingerprint, versions)
        warned = [w for path in sources for w in read_warnings(path) if w.id not in without]
        write_warnings(parquet, warned)
        new = dataclasses.replace(new, warnings=count_by_kind(warned))
        write_footer(parquet, new, program)
        parquet.close()
        if not rows and not len(errors):
            pending.discard()
            return None
        return new if pending.commit() else read_part(part_path(target, shard))
    except BaseException:
        pending.discard()
        raise


def _shard_name(shards: list[str], without: Collection[str], generation: str) -> str:
    digest = hashlib.sha256(json.dumps([generation, shards, sorted(without)]).encode())
    return digest.hexdigest()[:16]


def _schema_and_program(path: str) -> tuple[pa.Schema, str]:
    with parquet_input(path) as file:
        parquet = pq.ParquetFile(file)
        footer = read_footer(path, parquet.metadata.metadata or {})
        return parquet.schema_arrow.remove_metadata(), footer.get("program", "")


def _row_groups(sources: Sequence[str], left_out: pa.Array) -> Iterator[pa.Table]:
    for path in sources:
        with parquet_input(path) as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            for at in range(parquet.num_row_groups):
                yield _without(parquet.read_row_group(at).replace_schema_metadata(), left_out)


def _gathered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Joins small tables until they make a row group."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= ROW_GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if sum(map(len, waiting)):
        yield pa.concat_tables(waiting)


def _errors(sources: Sequence[str], before: list[Part], left_out: pa.Array) -> pa.Table:
    tables = [ERROR_SCHEMA.empty_table()]
    for path, part in zip(sources, before, strict=True):
        if part.errors_file:
            directory = path.rpartition("/")[0]
            errors = storage.join(directory, ERRORS_DIRECTORY, part.errors_file)
            with parquet_input(errors) as file:
                tables.append(_without(pq.ParquetFile(file).read(), left_out))
    return pa.concat_tables(tables)


def _without(table: pa.Table, left_out: pa.Array) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table["id"], value_set=left_out)))
