"""Parts: the columns as they are documented, and a file that appears whole or not at all."""

from __future__ import annotations

import dataclasses
import pathlib
import resource
import warnings
from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import scipy.special

from transforms.batches import BatchPlace, FeatureBatch, ImageRow, StageSeconds
from transforms.dataset import scores
from transforms.dataset.columns import PartFormat
from transforms.dataset.layout import is_part_name, part_path
from transforms.dataset.part import Part, read_part
from transforms.dataset.writer import IncompleteShardError, PartWriter
from transforms.errors import CorruptImageError, ErrorRow, UserError, error_row
from transforms.inputs.examples import KeptColumn
from transforms.refs import ImageRef

SHARD = "0123456789abcdef"
FEATURES = PartFormat("feature_vector", width=4, program="test 1")


def ref(number: int) -> ImageRef:
    name = f"/photos/{number:05d}.png"
    return ImageRef(name, name, f"{number}-1", label=f"class {number % 3}")


def vectors(count: int, width: int = 4, start: int = 0) -> np.ndarray:
    """Row n is n, n + 0.25, …: an order mistake shows."""
    return (np.arange(start, start + count)[:, None] + np.arange(width) / 4).astype(np.float32)


def feature_batch(
    start: int,
    size: int,
    shard_size: int,
    bad: Sequence[int] = (),
    features: np.ndarray | None = None,
    kept: Sequence[tuple] = (),
    shard: str = SHARD,
) -> FeatureBatch:
    """The refs from `start` on: rows, and error rows where their number is in `bad`."""
    good = [number for number in range(start, start + size) if number not in bad]
    values = kept or [()] * len(good)
    return FeatureBatch(
        features=vectors(size, start=start)[[n - start for n in good]]
        if features is None
        else features,
        rows=tuple(ImageRow(ref(n), 640 + n, 480, v) for n, v in zip(good, values, strict=True)),
        errors=tuple(
            error_row(ref(number), "decode", CorruptImageError(f"bad {number}"))
            for number in range(start, start + size)
            if number in bad
        ),
        place=BatchPlace(shard, shard_size, start, size),
        seconds=StageSeconds(read=0.5, decode=1.5, infer=2.5, wait=0.25),
    )


def batches_of(size: int, batch_size: int = 32, bad: Sequence[int] = ()) -> Iterator[FeatureBatch]:
    for start in range(0, size, batch_size):
        yield feature_batch(start, min(batch_size, size - start), size, bad)


def write(output: pathlib.Path, part_format: PartFormat, *batches: FeatureBatch) -> Part:
    writer = PartWriter(str(output), part_format, batches[0].place)
    for batch in batches:
        writer.append(batch)
    return writer.commit()


def files_in(directory: pathlib.Path) -> list[str]:
    """All files below, whatever their names begin with."""
    return sorted(
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()
    )


# The columns


def test_a_part_of_feature_vectors_has_the_documented_columns(tmp_path: pathlib.Path) -> None:
    write(tmp_path, FEATURES, feature_batch(0, 3, 3))
    schema = pq.read_schema(tmp_path / f"part-{SHARD}.parquet").remove_metadata()
    expected = {
        "id": pa.string(),
        "uri": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "version": pa.string(),
        "feature_vector": pa.list_(pa.field("element", pa.float32(), nullable=False), 4),
    }
    assert dict(zip(schema.names, schema.types, strict=True)) == expected
    assert schema.names == list(expected)
    assert not any(field.nullable for field in schema)


def test_logits_come_with_label_kept_columns_and_top_k(tmp_path: pathlib.Path) -> None:
    part_format = PartFormat(
        "classification",
        width=4,
        has_label=True,
        kept=(
            KeptColumn("caption", "string"),
            KeptColumn("box", "float32", is_list=True),
            KeptColumn("hash", "binary"),
            KeptColumn("number", "int64"),
        ),
        top_k=2,
        class_names=("a", "b", "c", "d"),
    )
    kept = [("a cat", [0.5, 1.5], b"\xff\0", 2**40), (None, [], None, None)]
    write(tmp_path, part_format, feature_batch(0, 2, 2, kept=kept))
    table = pq.read_table(tmp_path / f"part-{SHARD}.parquet")
    assert [f"{field.name}: {field.type}" for field in table.schema] == [
        "id: string",
        "uri: string",
        "width: int32",
        "height: int32",
        "version: string",
        "label: string",
        "caption: string",
        "box: list<element: float>",
        "hash: binary",
        "number: int64",
        "logits: fixed_size_list<element: float not null>[4]",
        "top_k: list<element: struct<index: int32, label: string, score: float>>",
    ]
    assert table["label"].to_pylist() == ["class 0", "class 1"]
    assert table["caption"].to_pylist() == ["a cat", None]
    assert table["box"].to_pylist() == [[0.5, 1.5], []]
    assert table["hash"].to_pylist() == [b"\xff\0", None]
    assert table["number"].to_pylist() == [2**40, None]
    assert table["top_k"].to_pylist()[0] == [
        {"index": 3, "label": "d", "score": 0.75},
        {"index": 2, "label": "c", "score": 0.5},
    ]


@pytest.mark.parametrize("name", ["id", "height", "version", "feature_vector", "label"])
def test_a_kept_column_with_the_name_of_another_is_refused(name: str) -> None:
    part_format = dataclasses.replace(
        FEATURES, has_label=True, kept=(KeptColumn("fine", "int64"), KeptColumn(name, "string"))
    )
    with pytest.raises(UserError, match=f"^keep {name}: the part has a column of that name"):
        part_format.schema()


def test_top_k_and_logits_are_free_names_where_there_are_no_such_columns() -> None:
    kept = (KeptColumn("logits", "string"), KeptColumn("top_k", "int64"))
    names = dataclasses.replace(FEATURES, kept=kept).schema().names
    assert names[5:] == ["logits", "top_k", "feature_vector"]


# Reading back


def test_every_reader_sees_the_rows_and_only_these(tmp_path: pathlib.Path) -> None:
    bad = (3, 40)
    write(tmp_path, FEATURES, *batches_of(70, bad=bad))
    (tmp_path / "_run.json").write_text("{}")
    (tmp_path / "_SUCCESS").touch()
    good = [number for number in range(70) if number not in bad]
    ids, answers = [ref(number).id for number in good], vectors(70)[good]

    frame = pd.read_parquet(tmp_path)
    assert frame["id"].tolist() == ids
    assert frame["width"].tolist() == [640 + number for number in good]
    assert frame["version"].tolist() == [f"{number}-1" for number in good]
    np.testing.assert_array_equal(np.stack(frame["feature_vector"]), answers, strict=True)

    table = pyarrow.dataset.dataset(tmp_path).to_table()
    assert table["id"].to_pylist() == ids
    column = table["feature_vector"].combine_chunks()
    np.testing.assert_array_equal(column.flatten().to_numpy().reshape(-1, 4), answers)

    rows = duckdb.sql(f"select id, feature_vector from '{tmp_path}/*.parquet'").fetchall()
    assert [row[0] for row in rows] == ids
    np.testing.assert_array_equal(np.array([row[1] for row in rows], np.float32), answers)


def test_rows_keep_their_order_over_row_groups(tmp_path: pathlib.Path) -> None:
    part = write(tmp_path, FEATURES, *batches_of(2600, 100))
    path = tmp_path / f"part-{SHARD}.parquet"
    groups = pq.ParquetFile(path).metadata
    sizes = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
    assert sum(sizes) == part.rows == 2600
    assert len(sizes) == 3
    table = pq.read_table(path)
    assert table["id"].to_pylist() == [ref(number).id for number in range(2600)]
    np.testing.assert_array_equal(np.stack(table["feature_vector"].to_numpy()), vectors(2600))


def test_the_footer_says_what_the_part_is(tmp_path: pathlib.Path) -> None:
    part_format = dataclasses.replace(FEATURES, fingerprint=(("model", "m"), ("task", "t")))
    part = write(tmp_path, part_format, *batches_of(70, bad=[5, 6, 69]))
    path = part_path(str(tmp_path), SHARD)
    again = read_part(path)
    assert again == part
    assert (again.shard, again.rows, again.errors) == (SHARD, 67, 3)
    assert again.fingerprint == {"model": "m", "task": "t"}
    assert (again.seconds["read"], again.seconds["decode"], again.seconds["infer"]) == (
        1.5,
        4.5,
        7.5,
    )
    assert again.seconds["write"] > 0
    assert b'"program": "test 1"' in pq.read_metadata(path).metadata[b"image_features"]


def test_a_parquet_file_of_another_program_is_told_apart(tmp_path: pathlib.Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "part-1.parquet")
    with pytest.raises(ValueError, match=r"part-1\.parquet was not written by this"):
        read_part(str(tmp_path / "part-1.parquet"))


# Error rows


def test_error_rows_lie_in_a_file_that_the_footer_names(tmp_path: pathlib.Path) -> None:
    part = write(tmp_path, FEATURES, *batches_of(70, bad=[5, 69]))
    assert files_in(tmp_path) == [f"_errors/{part.errors_file}", f"part-{SHARD}.parquet"]
    assert part.errors_file is not None and part.errors_file.startswith(SHARD)
    rows = pq.read_table(tmp_path / "_errors" / part.errors_file).to_pylist()
    assert [ErrorRow(**row) for row in rows] == [
        ErrorRow(
            ref(number).id,
            ref(number).uri,
            ref(number).version,
            "decode",
            "CorruptImageError",
            f"bad {number}",
        )
        for number in (5, 69)
    ]


def test_a_part_without_errors_has_no_error_file(tmp_path: pathlib.Path) -> None:
    assert write(tmp_path, FEATURES, *batches_of(5)).errors_file is None
    assert files_in(tmp_path) == [f"part-{SHARD}.parquet"]


def test_a_shard_of_only_errors_is_a_part_without_rows(tmp_path: pathlib.Path) -> None:
    nothing = feature_batch(0, 3, 3, bad=[0, 1, 2], features=np.empty((0, 0), np.float32))
    write(tmp_path, FEATURES, nothing)
    part = read_part(part_path(str(tmp_path), SHARD))
    assert (part.rows, part.errors) == (0, 3)
    table = pq.read_table(tmp_path / f"part-{SHARD}.parquet")
    assert len(table) == 0
    assert table.schema.field("feature_vector").type.list_size == 4
    other = [feature_batch(0, 4, 4, shard="f" * 16)]
    write(tmp_path, FEATURES, *other)
    assert len(pd.read_parquet(tmp_path)) == 4  # an empty part does not disturb the others


# Whole or not at all


def test_nothing_is_visible_before_the_commit(tmp_path: pathlib.Path) -> None:
    batches = list(batches_of(2600, 100, bad=[7]))
    writer = PartWriter(str(tmp_path), FEATURES, batches[0].place)
    for batch in batches:
        writer.append(batch)
        assert len(pyarrow.dataset.dataset(tmp_path).files) == 0
    assert writer.complete
    assert not [name for name in files_in(tmp_path) if is_part_name(name)]
    writer.commit()
    assert len(pd.read_parquet(tmp_path)) == 2599


def test_a_reader_by_glob_is_not_disturbed_by_a_part_in_the_making(tmp_path: pathlib.Path) -> None:
    write(tmp_path, FEATURES, feature_batch(0, 3, 3, shard="f" * 16))
    writer = PartWriter(str(tmp_path), FEATURES, BatchPlace(SHARD, 2600, 0, 0))
    for batch in list(batches_of(2600, 100))[:-1]:
        writer.append(batch)
    try:
        assert duckdb.sql(f"select count(*) from '{tmp_path}/*.parquet'").fetchall() == [(3,)]
    finally:
        writer.discard()


@pytest.mark.parametrize("appended", [0, 1, 26])
def test_nothing_is_left_after_a_discard(tmp_path: pathlib.Path, appended: int) -> None:
    batches = list(batches_of(2600, 100, bad=[7]))
    writer = PartWriter(str(tmp_path), FEATURES, batches[0].place)
    for batch in batches[:appended]:
        writer.append(batch)
    writer.discard()
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("missing", [100, 2_000, 30_000, 55_000])
def test_a_full_disk_leaves_no_part_and_after_a_discard_nothing(
    tmp_path: pathlib.Path, missing: int
) -> None:
    """The disk is full `missing` bytes before the end of the part: a limit on file sizes."""
    random = np.random.default_rng(0)
    batches = [
        feature_batch(start, 100, 2600, features=random.random((100, 4), np.float32))
        for start in range(0, 2600, 100)
    ]
    write(tmp_path / "roomy", FEATURES, *batches)
    limit = (tmp_path / "roomy" / f"part-{SHARD}.parquet").stat().st_size - missing
    output = tmp_path / "full"
    writer = PartWriter(str(output), FEATURES, batches[0].place)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            for batch in batches:
                writer.append(batch)
            writer.commit()
        assert not [name for name in files_in(output) if is_part_name(name)]
        writer.discard()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files_in(output) == []


def test_a_commit_before_the_last_batch_is_refused(tmp_path: pathlib.Path) -> None:
    batches = list(batches_of(70))
    writer = PartWriter(str(tmp_path), FEATURES, batches[0].place)
    writer.append(batches[0])
    assert not writer.complete
    with pytest.raises(IncompleteShardError, match=f"shard {SHARD} ended after 32 of 70 refs"):
        writer.commit()
    writer.discard()
    assert files_in(tmp_path) == []


FIRST = feature_batch(0, 4, 12)
WRONG_NEXT = {
    "the one after the next": feature_batch(8, 4, 12),
    "the first again": FIRST,
    "overlapping": feature_batch(2, 4, 12),
    "of another shard": feature_batch(4, 4, 12, shard="f" * 16),
    "short": dataclasses.replace(
        feature_batch(4, 3, 12), place=dataclasses.replace(FIRST.place, start=4)
    ),
    "long": dataclasses.replace(
        feature_batch(4, 5, 12), place=dataclasses.replace(FIRST.place, start=4)
    ),
}


@pytest.mark.parametrize("wrong", WRONG_NEXT)
def test_a_batch_that_is_not_the_next_is_refused_and_names_the_shard(
    tmp_path: pathlib.Path, wrong: str
) -> None:
    writer = PartWriter(str(tmp_path), FEATURES, FIRST.place)
    writer.append(FIRST)
    with pytest.raises(IncompleteShardError, match=SHARD):
        writer.append(WRONG_NEXT[wrong])
    writer.discard()
    assert files_in(tmp_path) == []


def test_a_shard_cannot_begin_in_its_middle(tmp_path: pathlib.Path) -> None:
    batch = feature_batch(4, 4, 12)
    writer = PartWriter(str(tmp_path), FEATURES, batch.place)
    with pytest.raises(IncompleteShardError, match="has 0 of 12 refs, then came refs 4…"):
        writer.append(batch)


def test_more_refs_than_the_shard_has_are_never_committed(tmp_path: pathlib.Path) -> None:
    writer = PartWriter(str(tmp_path), FEATURES, BatchPlace(SHARD, 6, 0, 4))
    writer.append(feature_batch(0, 4, 6))
    with pytest.raises(IncompleteShardError):
        writer.append(feature_batch(4, 4, 6))
        assert not writer.complete
        writer.commit()
    writer.discard()
    assert files_in(tmp_path) == []


def test_vectors_of_another_length_are_refused(tmp_path: pathlib.Path) -> None:
    batch = feature_batch(0, 2, 2, features=vectors(2, width=5))
    writer = PartWriter(str(tmp_path), FEATURES, batch.place)
    with pytest.raises(ValueError, match="length 5, at launch it was 4"):
        writer.append(batch)


def test_committing_a_shard_twice_gives_its_rows_once(tmp_path: pathlib.Path) -> None:
    first = write(tmp_path, FEATURES, *batches_of(70, bad=[5]))
    before = pq.read_table(tmp_path / f"part-{SHARD}.parquet")
    second = write(tmp_path, FEATURES, *batches_of(70, batch_size=10, bad=[5]))
    assert second.errors_file == first.errors_file
    assert files_in(tmp_path) == [f"_errors/{first.errors_file}", f"part-{SHARD}.parquet"]
    assert pq.read_table(tmp_path / f"part-{SHARD}.parquet") == before


def test_of_two_workers_with_different_errors_the_first_ones_part_stays(
    tmp_path: pathlib.Path,
) -> None:
    """It names its own errors, and the second worker counts what is there."""
    first = write(tmp_path, FEATURES, *batches_of(10, bad=[5]))
    second = write(tmp_path, FEATURES, *batches_of(10, bad=[5, 6]))
    assert second == first == read_part(part_path(str(tmp_path), SHARD))
    assert first.errors_file is not None
    rows = pq.read_table(tmp_path / "_errors" / first.errors_file).num_rows
    assert (len(pd.read_parquet(tmp_path)), rows) == (9, 1)
    assert len(files_in(tmp_path)) == 3  # and the second one's errors, which no part names


# Best classes


def best(logits: object, **settings: object) -> list[list[dict]]:
    array = np.asarray(logits, np.float32)
    part_format = PartFormat("classification", width=array.shape[1], **settings)
    return scores.top_k_column(
        array, part_format.top_k, part_format.activation, part_format.class_names
    ).to_pylist()


def indices(rows: list[list[dict]]) -> list[list[int]]:
    return [[entry["index"] for entry in row] for row in rows]


@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_scores_are_those_of_scipy(activation: scores.Activation) -> None:
    logits = np.random.default_rng(0).normal(0, 8, (50, 30)).astype(np.float32)
    expected = {
        "none": logits,
        "softmax": scipy.special.softmax(logits.astype(np.float64), axis=1),
        "sigmoid": scipy.special.expit(logits.astype(np.float64)),
    }[activation]
    ours = scores.activate(logits, activation)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)

    rows = best(logits, top_k=5, activation=activation)
    order = np.argsort(-logits, axis=1)[:, :5]
    assert indices(rows) == order.tolist()
    np.testing.assert_allclose(
        [[entry["score"] for entry in row] for row in rows],
        np.take_along_axis(expected, order, 1),
        rtol=1e-5,
        atol=1e-7,
    )


@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_ties_go_to_the_lower_index(activation: scores.Activation) -> None:
    rows = best([[1, 3, 3, 1, 3]], top_k=4, activation=activation)
    assert indices(rows) == [[1, 2, 4, 0]]


def test_classes_are_ranked_by_logit_where_their_scores_are_equal_after_rounding() -> None:
    assert indices(best([[20, 30, 40]], top_k=3, activation="sigmoid")) == [[2, 1, 0]]
    assert indices(best([[-300, 0, -200]], top_k=3, activation="softmax")) == [[1, 2, 0]]


def test_a_sigmoid_keeps_small_scores_apart() -> None:
    [row] = best([[-40, -30, -20]], top_k=3, activation="sigmoid")
    assert [entry["index"] for entry in row] == [2, 1, 0]
    expected = scipy.special.expit(np.array([-20.0, -30.0, -40.0]))
    np.testing.assert_allclose([entry["score"] for entry in row], expected, rtol=1e-4)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_huge_logits_neither_overflow_nor_warn(activation: scores.Activation) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = best([[1e38, -1e38, 0], [1e4, 1e3, -1e4]], top_k=1, activation=activation)
    assert [[(entry["index"], entry["score"]) for entry in row] for row in rows] == [[(0, 1.0)]] * 2


def test_more_classes_than_there_are_gives_them_all() -> None:
    assert indices(best([[1, 2], [4, 3]], top_k=5)) == [[1, 0], [0, 1]]


def test_without_class_names_the_labels_are_null() -> None:
    assert best([[1, 2]], top_k=1) == [[{"index": 1, "label": None, "score": 2.0}]]


@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_written_as_they_are(
    tmp_path: pathlib.Path, activation: scores.Activation, value: float
) -> None:
    logits = np.array([[0, value, 1, 2], [4, 3, 2, 1], [value] * 4], np.float32)
    part_format = PartFormat("classification", width=4, top_k=2, activation=activation)
    write(tmp_path, part_format, feature_batch(0, 3, 3, features=logits))
    table = pq.read_table(tmp_path / f"part-{SHARD}.parquet")
    written = np.stack(table["logits"].to_numpy())
    np.testing.assert_array_equal(written, logits)
    rows = table["top_k"].to_pylist()
    assert [len(row) for row in rows] == [2, 2, 2]
    assert [entry["index"] for entry in rows[1]] == [0, 1]


@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_an_infinite_logit_is_the_best_and_nan_never(activation: scores.Activation) -> None:
    assert indices(best([[0, np.inf, 1]], top_k=1, activation=activation)) == [[1]]
    assert indices(best([[0, np.nan, 1]], top_k=2, activation="none")) == [[2, 0]]
