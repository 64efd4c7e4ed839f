"""Every part of an output, read to the last byte: what is wrong with it, and which images it holds.

For `pipeline.verify`. Each problem is one line that names the part and, where one is to blame, the
image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.checks.sample import Sample
from pipeline.output.directory import Output
from transforms import storage
from transforms.dataset.layout import ERRORS_DIRECTORY, part_name
from transforms.dataset.own_files import file_checksum, parquet_input
from transforms.dataset.part import Part, read_part
from transforms.dataset.snapshot import Snapshot
from transforms.errors import ERROR_SCHEMA, one_line

VECTOR_COLUMNS = ("feature_vector", "logits")

_HOW = "delete the part, and the command of the run computes its images again"


@dataclasses.dataclass
class Checked:
    """What was seen in the parts that could be read.

    Attributes:
      problems: one line each.
      rows, errors: how many there are.
      containers: URIs of the files that hold records.
      fingerprint: that of the parts; {} if none could be read.
      versions: of the libraries that computed them, as their footers have them; each once.
    """

    problems: list[str] = dataclasses.field(default_factory=list)
    rows: int = 0
    errors: int = 0
    containers: set[str] = dataclasses.field(default_factory=set)
    fingerprint: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: list[dict[str, str]] = dataclasses.field(default_factory=list)


def check_parts(output: Output, names: list[str], snapshot: Snapshot, sample: Sample) -> Checked:
    """Reads all parts.

    Args:
      output: the directory.
      names: of the parts that are there.
      snapshot: what the last finished run left.
      sample: is offered each image.
    """
    checked = Checked()
    seen: dict[str, str] = {}
    for name in names:
        for problem in _problems(output, name, snapshot, sample, checked, seen):
            checked.problems.append(f"{output.path(name)}: {problem}")
    for name in sorted(snapshot.checksums):
        if not storage.exists(output.path(name)):
            checked.problems.append(
                f"{output.path(name)}: is missing; the command of the run computes its images again"
            )
    return checked


def _problems(
    output: Output,
    name: str,
    snapshot: Snapshot,
    sample: Sample,
    checked: Checked,
    seen: dict[str, str],
) -> Iterator[str]:
    try:
        part = read_part(output.path(name))
    except (OSError, ValueError) as error:
        yield f"{_whole(output, name, snapshot) or one_line(error)}; {_HOW}"
        return
    changed = _whole(output, name, snapshot)
    if changed:
        yield f"{changed}; it holds {_some_ids(output.path(name))}; {_HOW}"
    if part_name(part.shard) != name:
        yield f"its footer is that of shard {part.shard}; {_HOW}"
    checked.fingerprint = checked.fingerprint or part.fingerprint
    if part.versions not in checked.versions:
        checked.versions.append(part.versions)
    if part.fingerprint != checked.fingerprint:
        yield f"made with other settings than the other parts; {_HOW}"
    try:
        yield from _row_problems(output, name, part, sample, checked, seen)
        if part.errors_file:
            yield from _error_problems(output, name, part, snapshot, sample, checked, seen)
    except (OSError, pa.ArrowException) as error:
        yield f"cannot be read: {one_line(error)}; {_HOW}"


def _whole(output: Output, path: str, snapshot: Snapshot) -> str | None:
    """That a file is not what it was when its run finished; None if it is, or is newer."""
    wanted = snapshot.checksums.get(path)
    try:
        if wanted is None or file_checksum(output.path(path)) == wanted:
            return None
    except OSError as error:
        return f"cannot be read: {one_line(error)}"
    return "its bytes are not those that were written (checksum)"


def _row_problems(
    output: Output,
    name: str,
    part: Part,
    sample: Sample,
    checked: Checked,
    seen: dict[str, str],
) -> Iterator[str]:
    rows = 0
    with parquet_input(output.path(name)) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        column = _vector_column(parquet.schema_arrow)
        if column is None:
            yield f"has not the columns of a part; {_HOW}"
            return
        width = parquet.schema_arrow.field(column).type.list_size
        stated = part.fingerprint.get("vector", "").rpartition("[")[2].rstrip("]")
        if str(width) != stated:
            yield f"vectors of length {width}, the settings say {stated}; {_HOW}"
        for at in range(parquet.num_row_groups):
            table = parquet.read_row_group(at)
            rows += len(table)
            vectors = table[column].combine_chunks().flatten().to_numpy().reshape(-1, width)
            ids = table["id"].to_pylist()
            yield from _twice(ids, name, seen)
            finite = np.isfinite(vectors).all(axis=1)
            for position in np.flatnonzero(np.logical_not(finite)):
                yield f"id {ids[position]!r}: its vector is not finite; {_HOW}"
            uris = table["uri"].to_pylist()
            checked.containers.update(
                uri for image_id, uri in zip(ids, uris, strict=True) if uri != image_id
            )
            sample.offer_rows(table, vectors)
    checked.rows += rows
    if rows != part.rows:
        yield f"{rows} rows, its footer says {part.rows}; {_HOW}"


def _vector_column(schema: pa.Schema) -> str | None:
    """Which column has the vectors; None if one that is read here is missing or of another type."""
    kinds = {name: pa.string() for name in ("id", "uri", "version")}
    kinds |= {name: pa.int32() for name in ("width", "height")}
    if any(schema.names.count(n) != 1 or schema.field(n).type != k for n, k in kinds.items()):
        return None
    for name in VECTOR_COLUMNS:
        if schema.get_field_index(name) >= 0:
            found = schema.field(name).type
            is_vector = pa.types.is_fixed_size_list(found) and found.value_type == pa.float32()
            return name if is_vector else None
    return None


def _error_problems(
    output: Output,
    name: str,
    part: Part,
    snapshot: Snapshot,
    sample: Sample,
    checked: Checked,
    seen: dict[str, str],
) -> Iterator[str]:
    path = f"{ERRORS_DIRECTORY}/{part.errors_file}"
    changed = _whole(output, path, snapshot)
    if changed:
        yield f"its file of error rows, {path}: {changed}; {_HOW}"
    with parquet_input(output.path(path)) as file:
        table = pq.ParquetFile(file).read()
    if not table.schema.remove_metadata().equals(ERROR_SCHEMA):
        yield f"{path} has not the columns of error rows; {_HOW}"
        return
    yield from _twice(table["id"].to_pylist(), name, seen)
    checked.errors += len(table)
    if len(table) != part.errors:
        yield f"{len(table)} error rows in {path}, its footer says {part.errors}; {_HOW}"
    sample.offer_errors(table)


def _twice(ids: list[str], name: str, seen: dict[str, str]) -> Iterator[str]:
    for image_id in ids:
        if image_id in seen:
            where = "twice" if seen[image_id] == name else f"and in {seen[image_id]}, too"
            yield f"id {image_id!r} is in it {where}; {_HOW}"
        seen[image_id] = name


def _some_ids(path: str) -> str:
    """Which images a part with changed bytes holds, as far as its ids can still be read."""
    try:
        with parquet_input(path) as file:
            ids = pq.ParquetFile(file).read(["id"])["id"].to_pylist()
    except (OSError, pa.ArrowException):
        return "images whose ids cannot be read"
    return f"{len(ids)} images, {ids[0]!r} to {ids[-1]!r}" if ids else "no images"
