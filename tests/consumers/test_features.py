"""Features as a consumer takes them: the same rows in each form, from one state of the dataset."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import consumers
from tests.helpers import outputs
from tests.helpers.commands import ROOT
from tests.helpers.outputs import A, B
from transforms.batches import BatchPlace, FeatureBatch, ImageRow
from transforms.dataset.columns import PartFormat
from transforms.dataset.own_files import file_checksum
from transforms.dataset.snapshot import update_snapshot
from transforms.dataset.writer import PartWriter
from transforms.errors import EmptyImageError, UserError
from transforms.inputs.kept import KeptColumn
from transforms.refs import ImageRef

C = "c" * 16
WIDTH = 8
KEPT = (KeptColumn("boxes", "float32", is_list=True), KeptColumn("score", "int64"))


def write_part(
    directory: pathlib.Path,
    shard: str,
    start: int,
    rows: int,
    task: str = "feature_vector",
    labels: Sequence[str | None] = ("cat", "dog", None),
    fingerprint: tuple[tuple[str, str], ...] = (("engine", "tensorflow"),),
    batch_rows: int = 1024,
) -> np.ndarray:
    """Commits rows `start` to `start + rows`, as the pipeline does; gives their vectors."""
    vectors = np.random.default_rng(start).random((rows, WIDTH), np.float32)
    part_format = PartFormat(task, WIDTH, True, KEPT, fingerprint=fingerprint)
    refs = [
        ImageRef(f"{number:05d}", f"{number}.png", "v", label=labels[number % len(labels)])
        for number in range(start, start + rows)
    ]
    kept = [([0.5] * (number % 3), number) for number in range(start, start + rows)]
    writer = PartWriter(str(directory), part_format, BatchPlace(shard, rows, 0, 0))
    for at in range(0, rows, batch_rows):
        stop = min(at + batch_rows, rows)
        writer.append(
            FeatureBatch(
                vectors[at:stop],
                tuple(ImageRow(refs[i], 20, 30, kept[i]) for i in range(at, stop)),
                (),
                BatchPlace(shard, rows, at, stop - at),
            )
        )
    writer.commit()
    return vectors


def publish(directory: pathlib.Path) -> None:
    update_snapshot(str(directory), [path.name for path in directory.glob("part-*")])


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, np.ndarray]:
    """Three parts, the second one of several row groups; and the vectors in their order."""
    directory = tmp_path_factory.mktemp("stored")
    vectors = [
        write_part(directory, A, 0, 7),
        write_part(directory, B, 7, 2500),
        write_part(directory, C, 2507, 30),
    ]
    publish(directory)
    return str(directory), np.concatenate(vectors)


# The same rows in each form


def test_metadata_tell_what_there_is(stored: tuple[str, np.ndarray]) -> None:
    directory, vectors = stored
    features = consumers.load_features(directory)
    assert len(features) == len(vectors) == 2537
    assert (features.width, features.vector_column) == (WIDTH, "feature_vector")
    assert features.fingerprint == {"engine": "tensorflow"}
    assert features.schema.names == list(features.columns)
    assert features.ids.tolist() == [f"{number:05d}" for number in range(2537)]


def test_each_form_has_the_rows_in_one_order(stored: tuple[str, np.ndarray]) -> None:
    directory, vectors = stored
    features = consumers.load_features(directory)
    table = features.to_arrow()
    assert table["id"].to_pylist() == features.ids.tolist()
    np.testing.assert_array_equal(features.to_numpy(), vectors)
    np.testing.assert_array_equal(
        consumers.vector_array(table["feature_vector"].combine_chunks()), vectors
    )
    frame = features.to_pandas()
    assert frame.columns.tolist() == table.column_names
    np.testing.assert_array_equal(np.stack(frame["feature_vector"]), vectors)
    assert frame["label"][:2].tolist() == ["cat", "dog"]
    polars = features.to_polars()
    assert polars.columns == table.column_names
    np.testing.assert_array_equal(polars["feature_vector"].to_numpy(), vectors)
    assert polars["boxes"][2].to_list() == [0.5, 0.5]


def test_vectors_are_written_into_an_array_of_ones_own(stored: tuple[str, np.ndarray]) -> None:
    directory, vectors = stored
    into = np.zeros_like(vectors)
    assert consumers.load_features(directory).to_numpy_on_disk(into) is into
    np.testing.assert_array_equal(into, vectors)


def test_columns_are_those_that_were_asked_for(stored: tuple[str, np.ndarray]) -> None:
    directory, vectors = stored
    features = consumers.load_features(directory, ["label", "feature_vector", "id"])
    assert features.to_arrow().column_names == ["label", "feature_vector", "id"]
    assert features.to_pandas().columns.tolist() == ["label", "feature_vector", "id"]
    only = features.select(["feature_vector"])
    np.testing.assert_array_equal(np.stack(only.to_pandas()["feature_vector"]), vectors)
    assert only.to_torch()[0].keys() == {"feature_vector"}
    assert features.select(["id"]).to_pandas()["id"].tolist() == features.ids.tolist()
    assert features.select(["id"]).to_numpy().shape == vectors.shape, "whatever the columns are"


def test_a_filter_takes_rows_from_each_form(stored: tuple[str, np.ndarray]) -> None:
    directory, vectors = stored
    where = (pc.field("label") == "cat") & (pc.field("score") >= 5)
    features = consumers.load_features(directory, ["id", "feature_vector"], where)
    rows = [number for number in range(5, 2537) if number % 3 == 0]
    assert len(features) == len(rows)
    assert features.ids.tolist() == [f"{number:05d}" for number in rows]
    assert features.to_arrow()["id"].to_pylist() == features.ids.tolist()
    np.testing.assert_array_equal(features.to_numpy(), vectors[rows])
    read = [image for batch in features.batches(100) for image in batch["id"].to_pylist()]
    assert read == features.ids.tolist()
    assert features.to_torch()[-1]["id"] == f"{rows[-1]:05d}"


def test_a_filter_may_leave_nothing_or_one_row_group(stored: tuple[str, np.ndarray]) -> None:
    directory, vectors = stored
    nothing = consumers.load_features(directory, where=pc.field("label") == "cow")
    assert (len(nothing), nothing.to_numpy().shape) == (0, (0, WIDTH))
    assert (len(nothing.to_pandas()), nothing.to_polars().height) == (0, 0)
    assert (list(nothing.batches(4)), len(nothing.to_torch())) == ([], 0)
    one = consumers.load_features(directory, where=pc.field("score").isin([1500, 1501]))
    np.testing.assert_array_equal(one.to_numpy(), vectors[1500:1502])


@pytest.mark.parametrize("size", [1, 64, 1024, 1030, 5000])
def test_batches_are_of_the_size_that_was_asked_for(
    stored: tuple[str, np.ndarray], size: int
) -> None:
    directory, vectors = stored
    features = consumers.load_features(directory, ["feature_vector"])
    read = [consumers.vector_array(batch["feature_vector"]) for batch in features.batches(size)]
    assert {len(batch) for batch in read[:-1]} <= {size}
    assert 0 < len(read[-1]) <= size
    np.testing.assert_array_equal(np.concatenate(read), vectors)


def test_logits_are_vectors_too(tmp_path: pathlib.Path) -> None:
    vectors = write_part(tmp_path, A, 0, 3, task="classification")
    publish(tmp_path)
    features = consumers.load_features(str(tmp_path))
    assert features.vector_column == "logits"
    np.testing.assert_array_equal(features.to_numpy(), vectors)


# Memory


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_a_view_of_vectors_has_the_address_of_arrows_buffer() -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    column = pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), 3)
    assert address(consumers.vector_array(column)) == column.values.buffers()[1].address
    sliced = consumers.vector_array(column.slice(1, 2))
    assert address(sliced) == column.values.buffers()[1].address + 3 * 4
    np.testing.assert_array_equal(sliced, vectors[1:3])


def test_one_part_is_arrows_own_memory_and_no_copy(tmp_path: pathlib.Path) -> None:
    expected = write_part(tmp_path, A, 0, 3000)  # of several row groups
    publish(tmp_path)
    before = pa.total_allocated_bytes()
    vectors = consumers.load_features(str(tmp_path)).to_numpy()
    held = pa.total_allocated_bytes() - before
    assert held >= vectors.nbytes, "it lies in Arrow's pool"
    np.testing.assert_array_equal(vectors, expected)
    assert not vectors.flags.writeable
    del vectors
    assert pa.total_allocated_bytes() == before


def test_a_frames_vectors_are_rows_of_one_array(stored: tuple[str, np.ndarray]) -> None:
    frame = consumers.load_features(stored[0]).to_pandas()
    first, last = frame["feature_vector"].iloc[[0, -1]]
    assert address(last) - address(first) == (len(frame) - 1) * WIDTH * 4


PEAK = """
import resource, sys
import numpy as np
import consumers

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

features = consumers.load_features(sys.argv[1], ["id", "feature_vector"])
next(features.batches(32))
before = peak()
for batch in features.batches(256):
    consumers.vector_array(batch["feature_vector"])
streamed = peak() - before
vectors = features.to_numpy()
print(streamed, peak() - before, vectors.nbytes)
"""


def test_streaming_takes_no_memory_and_an_array_takes_its_own(tmp_path: pathlib.Path) -> None:
    """67 MB of vectors in 8 parts."""
    part_format = PartFormat("feature_vector", 4096)
    vectors = np.random.default_rng(0).random((512, 4096), np.float32)
    for number in range(8):
        rows = tuple(ImageRow(ImageRef(f"{number}-{i}", "a", "v"), 1, 1) for i in range(512))
        place = BatchPlace(f"{number:016x}", 512, 0, 512)
        writer = PartWriter(str(tmp_path), part_format, place)
        writer.append(FeatureBatch(vectors, rows, (), place))
        writer.commit()
    publish(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    streamed, whole, array = map(int, done.stdout.split())
    assert array == 8 * 512 * 4096 * 4
    assert streamed < array * 0.5
    assert whole < array * 1.6


# TensorFlow and PyTorch


def test_tensorflow_gets_batches_by_column_again_each_epoch(
    stored: tuple[str, np.ndarray],
) -> None:
    directory, vectors = stored
    columns = ["id", "label", "feature_vector", "score", "boxes"]
    where = pc.field("label").is_valid()
    features = consumers.load_features(directory, columns, where)
    dataset = features.to_tf_dataset(500)
    rows = [number for number in range(2537) if number % 3 != 2]
    assert int(dataset.cardinality()) == 4
    for _ in range(2):
        batches = list(dataset)
        assert [len(batch["id"]) for batch in batches] == [500, 500, 500, len(rows) - 1500]
        got = np.concatenate([batch["feature_vector"].numpy() for batch in batches])
        np.testing.assert_array_equal(got, vectors[rows])
        scores = np.concatenate([batch["score"].numpy() for batch in batches])
        assert (scores.dtype, scores.tolist()) == (np.int64, rows)
    assert batches[0]["label"].numpy()[:2].tolist() == [b"cat", b"dog"]
    assert batches[1]["boxes"].to_list()[0] == [0.5] * (rows[500] % 3)


def test_a_missing_label_is_told_before_an_epoch_begins(stored: tuple[str, np.ndarray]) -> None:
    features = consumers.load_features(stored[0], ["label", "feature_vector"])
    with pytest.raises(UserError) as told:
        features.to_tf_dataset(32)
    assert str(told.value) == (
        "columns label: 845 rows have no value there; leave them out with "
        "where=pyarrow.compute.field('label').is_valid()"
    )


def test_what_tensorflow_has_no_type_for_is_told(tmp_path: pathlib.Path) -> None:
    place = BatchPlace(A, 1, 0, 1)
    writer = PartWriter(str(tmp_path), PartFormat("classification", 2, top_k=1), place)
    row = ImageRow(ImageRef("a", "a", "v"), 1, 1)
    writer.append(FeatureBatch(np.ones((1, 2), np.float32), (row,), (), place))
    writer.commit()
    publish(tmp_path)
    with pytest.raises(UserError, match="columns top_k: TensorFlow has no list"):
        consumers.load_features(str(tmp_path)).to_tf_dataset(1)


def test_rows_are_asked_for_as_pytorchs_loader_does(stored: tuple[str, np.ndarray]) -> None:
    """The protocol of a map-style dataset; PyTorch itself cannot be had for CPUs alone here."""
    directory, vectors = stored
    rows = consumers.load_features(directory, ["id", "label", "feature_vector"]).to_torch()
    assert len(rows) == 2537
    asked = [2536, 0, 1200, 0]
    got = rows.__getitems__(asked)
    assert [row["id"] for row in got] == [f"{number:05d}" for number in asked]
    np.testing.assert_array_equal(np.stack([row["feature_vector"] for row in got]), vectors[asked])
    assert got[0]["feature_vector"].flags.writeable, "torch.as_tensor warns otherwise"
    assert rows[2]["label"] is None
    np.testing.assert_array_equal(rows[-1]["feature_vector"], vectors[-1])
    with pytest.raises(IndexError):
        rows[2537]


# One state, whatever runs do


def test_an_output_without_parts_is_empty(tmp_path: pathlib.Path) -> None:
    (tmp_path / "_snapshot.json").write_text(json.dumps({"generation": 1, "checksums": {}}))
    features = consumers.load_features(str(tmp_path))
    assert (len(features), features.width, features.fingerprint) == (0, 0, {})
    assert (features.ids.tolist(), features.to_numpy().shape) == ([], (0, 0))
    assert (features.to_arrow().num_rows, len(features.to_pandas())) == (0, 0)
    assert (features.to_polars().height, list(features.batches(3))) == (0, [])
    assert list(features.to_tf_dataset(3)) == []
    assert len(features.to_torch()) == 0


def test_a_part_of_errors_alone_has_no_rows(tmp_path: pathlib.Path) -> None:
    outputs.commit(tmp_path, A, 0, [EmptyImageError("nothing")])
    outputs.commit(tmp_path, B, 2)
    publish(tmp_path)
    features = consumers.load_features(str(tmp_path))
    assert features.ids.tolist() == [f"{B}/0", f"{B}/1"]
    assert features.to_numpy().tolist() == [[0, 1], [2, 3]]
    nothing = consumers.load_features(str(tmp_path), where=pc.field("id") == "no")
    assert nothing.to_numpy().shape == (0, 2)


def test_a_part_that_no_run_has_finished_is_not_read(tmp_path: pathlib.Path) -> None:
    outputs.commit(tmp_path, A, 2)
    with pytest.raises(UserError, match="no run has finished here yet"):
        consumers.load_features(str(tmp_path))
    publish(tmp_path)
    outputs.commit(tmp_path, B, 3)
    assert len(consumers.load_features(str(tmp_path))) == 2


def replace_first(directory: pathlib.Path) -> None:
    """A later state without part A, as `sync` leaves it: what it replaced is kept."""
    kept = directory / "_previous" / "1-1764180000"
    kept.mkdir(parents=True)
    (directory / f"part-{A}.parquet").rename(kept / f"part-{A}.parquet")
    checksums = {f"part-{B}.parquet": file_checksum(str(directory / f"part-{B}.parquet"))}
    state = {"generation": 2, "checksums": checksums}
    (directory / "_snapshot.json").write_text(json.dumps(state))


def test_what_a_later_run_replaces_is_still_read_as_it_was(tmp_path: pathlib.Path) -> None:
    outputs.commit(tmp_path, A, 2)
    outputs.commit(tmp_path, B, 3)
    publish(tmp_path)
    features = consumers.load_features(str(tmp_path))
    replace_first(tmp_path)
    assert features.ids.tolist() == [f"{A}/0", f"{A}/1", f"{B}/0", f"{B}/1", f"{B}/2"]
    assert len(features.to_numpy()) == 5
    assert len(consumers.load_features(str(tmp_path))) == 3


def test_two_states_are_never_mixed(tmp_path: pathlib.Path) -> None:
    outputs.commit(tmp_path, A, 2)
    publish(tmp_path)
    features = consumers.load_features(str(tmp_path))
    part = tmp_path / f"part-{A}.parquet"
    part.unlink()
    with pytest.raises(UserError, match=f"part-{A}.parquet: was deleted by a later run"):
        features.to_arrow()
    outputs.commit(tmp_path, A, 2, seconds=7.0)
    with pytest.raises(UserError, match=f"part-{A}.parquet: was replaced by a later run"):
        list(features.batches(8))


# What is refused


def test_parts_of_other_settings_are_named_with_the_setting(tmp_path: pathlib.Path) -> None:
    write_part(tmp_path, A, 0, 2)
    write_part(tmp_path, B, 2, 2, fingerprint=(("engine", "openvino"),))
    publish(tmp_path)
    with pytest.raises(UserError) as told:
        consumers.load_features(str(tmp_path))
    assert str(told.value).startswith(
        f"{tmp_path}: part-{A}.parquet and part-{B}.parquet do not belong together: engine is "
        "tensorflow in the first and openvino in the second; "
    )


def test_parts_of_other_columns_are_named_with_the_column(tmp_path: pathlib.Path) -> None:
    fingerprint = tuple(sorted(outputs.SETTINGS.items()))
    write_part(tmp_path, A, 0, 2, fingerprint=fingerprint)
    outputs.commit(tmp_path, B, 2)
    publish(tmp_path)
    with pytest.raises(UserError, match=r"the column boxes is list<.*> in the first and not in"):
        consumers.load_features(str(tmp_path))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"columns": ["id", "lable"]}, "columns lable: there is no such column in .*; there are"),
        ({"columns": ["id", "id"]}, "columns id: is named twice"),
        ({"columns": []}, "columns: name at least one"),
        ({"where": pc.field("lable") == "cat"}, r"where .*lable.*does not fit the columns id, "),
        ({"where": pc.field("label") == 3}, r"where .*label.*does not fit the columns id, "),
    ],
)
def test_columns_that_are_not_there_are_named(
    stored: tuple[str, np.ndarray], wrong: dict, told: str
) -> None:
    with pytest.raises(UserError, match=told) as error:
        consumers.load_features(stored[0], **wrong)
    assert "\n" not in str(error.value)


def test_a_batch_has_a_row(stored: tuple[str, np.ndarray]) -> None:
    features = consumers.load_features(stored[0])
    for take in (features.batches, features.to_tf_dataset):
        with pytest.raises(UserError, match="batch_size 0: must be at least 1"):
            take(0)


def test_a_link_in_the_place_of_a_part_is_refused(tmp_path: pathlib.Path) -> None:
    outputs.commit(tmp_path, A, 2)
    publish(tmp_path)
    part = tmp_path / f"part-{A}.parquet"
    elsewhere = part.rename(tmp_path / "elsewhere.parquet")
    part.symlink_to(elsewhere)
    with pytest.raises(UserError, match=f"part-{A}.parquet: is a link"):
        consumers.load_features(str(tmp_path))


def test_damage_is_told_with_its_part(tmp_path: pathlib.Path) -> None:
    write_part(tmp_path, A, 0, 1000)
    publish(tmp_path)
    features = consumers.load_features(str(tmp_path))
    part = tmp_path / f"part-{A}.parquet"
    content = bytearray(part.read_bytes())
    group = pq.read_metadata(part).row_group(0)
    column = group.column(pq.read_schema(part).names.index("feature_vector"))
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 0xFF
    part.write_bytes(content)
    with pytest.raises(UserError, match=f"part-{A}.parquet: is damaged"):
        features.to_numpy()
    part.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f"part-{A}.parquet: is damaged"):
        consumers.load_features(str(tmp_path))
