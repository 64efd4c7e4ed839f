"""Output directories with parts of rows that no model computed."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.output.directory import Output, open_output
from transforms.batches import BatchPlace, FeatureBatch, ImageRow, StageSeconds
from transforms.dataset.columns import PartFormat
from transforms.dataset.part import Part
from transforms.dataset.writer import PartWriter
from transforms.errors import EmptyImageError, error_row
from transforms.refs import ImageRef

SETTINGS = {"model_sha256": "abc", "task": "feature_vector", "pixels": "exact"}
# Names of shards.
A = "a" * 16
B = "b" * 16


def commit(
    directory: pathlib.Path,
    shard: str,
    rows: int,
    errors: Sequence[Exception] = (),
    fingerprint: Mapping[str, str] = SETTINGS,
    seconds: float = 1.0,
) -> Part:
    """Commits a part; ids are `<shard>/0`, `<shard>/1`, …, versions `v0`, `v1`, …."""
    size = rows + len(errors)
    refs = [ImageRef(f"{shard}/{number}", "a.png", f"v{number}") for number in range(size)]
    return commit_refs(
        directory, shard, refs[:rows], zip(refs[rows:], errors, strict=True), fingerprint, seconds
    )


def commit_refs(
    directory: pathlib.Path,
    shard: str,
    rows: Sequence[ImageRef],
    errors=(),
    fingerprint: Mapping[str, str] = SETTINGS,
    seconds: float = 1.0,
) -> Part:
    """Commits a part with these rows and with error rows of the pairs of ref and exception."""
    error_rows = tuple(error_row(ref, "decode", error) for ref, error in errors)
    size = len(rows) + len(error_rows)
    batch = FeatureBatch(
        np.arange(2 * len(rows), dtype=np.float32).reshape(-1, 2),
        tuple(ImageRow(ref, 20, 30) for ref in rows),
        error_rows,
        BatchPlace(shard, size, 0, size),
        seconds=StageSeconds(read=seconds, decode=2.0, infer=3.0),
    )
    part_format = PartFormat(
        "feature_vector", width=2, fingerprint=tuple(sorted(fingerprint.items()))
    )
    writer = PartWriter(str(directory), part_format, batch.place)
    writer.append(batch)
    return writer.commit()


def opened(directory: pathlib.Path) -> Output:
    return open_output(str(directory)).refresh()


def committed_ids(output: Output) -> dict[str, str]:
    """Version by id, of all rows and error rows."""
    return {
        row["id"]: row["version"]
        for part in output.ids()
        for row in [*part.rows.to_pylist(), *part.errors.to_pylist()]
    }


def names_in(directory: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


SPARK_PART = "part-00000-d2f8b6a0-4c1e-4b1f-9f0a-1f6c6d1a7b3e-c000.snappy.parquet"


def orphan(directory: pathlib.Path) -> pathlib.Path:
    """An error file that no part names, as a run leaves that is killed before the part."""
    part = commit(directory, B, 0, [EmptyImageError("orphan")])
    (directory / f"part-{B}.parquet").unlink()
    assert part.errors_file is not None
    return directory / "_errors" / part.errors_file
