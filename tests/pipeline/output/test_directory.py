"""An output directory: whose files it holds, and what its parts say is done."""

from __future__ import annotations

import dataclasses
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.output.directory import Output, open_finished, open_output
from tests.helpers.outputs import SPARK_PART, A, B, commit, committed_ids, opened, orphan
from transforms.dataset.layout import is_ours
from transforms.errors import CorruptImageError, EmptyImageError, UserError

C = "c" * 16


def error_types(output: Output) -> dict[str, int]:
    return {name: example.count for name, example in output.error_examples().items()}


def mistake(directory: pathlib.Path) -> str:
    """What is told of a directory that no output can go to: one line."""
    with pytest.raises(UserError) as info:
        open_output(str(directory))
    message = str(info.value)
    assert message.startswith(f"--output {directory}")
    assert len(message.splitlines()) == 1
    return message


# Whose directory it is


def test_a_new_or_empty_directory_is_fine(tmp_path: pathlib.Path) -> None:
    assert opened(tmp_path / "new").parts == {}
    assert opened(tmp_path).parts == {}
    assert not (tmp_path / "new").exists()  # opening writes nothing


def test_a_file_is_no_output_directory(tmp_path: pathlib.Path) -> None:
    (tmp_path / "out").touch()
    assert "is a file" in mistake(tmp_path / "out")


def test_a_directory_below_a_file_is_a_mistake(tmp_path: pathlib.Path) -> None:
    (tmp_path / "out").touch()
    mistake(tmp_path / "out" / "features")


@pytest.mark.parametrize("name", ["cat.jpg", "notes", "data.parquet", "part-1.csv", "_metadata"])
def test_a_directory_with_other_files_is_refused_and_one_is_named(
    tmp_path: pathlib.Path, name: str
) -> None:
    commit(tmp_path, A, 1)
    (tmp_path / name).touch()
    assert f"such as {name}" in mistake(tmp_path)
    assert (tmp_path / name).exists()


def test_a_directory_of_photos_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "cats").mkdir()
    assert "such as cats" in mistake(tmp_path)


def test_another_programs_parts_are_never_offered_to_be_deleted(tmp_path: pathlib.Path) -> None:
    """Spark's output looks like ours: `part-….parquet` and `_SUCCESS`."""
    pq.write_table(pa.table({"precious": [1]}), tmp_path / SPARK_PART)
    (tmp_path / "_SUCCESS").touch()
    message = mistake(tmp_path)
    assert SPARK_PART in message
    assert "delete that file" not in message
    assert "--overwrite" not in message


def test_what_a_killed_run_leaves_is_no_stranger(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 1, [EmptyImageError("x")])
    for name in ("_staging", "_copies", "_plan"):
        (tmp_path / name).mkdir()
    for name in ("_tmp-0123-part-1.parquet", "_run.json", "_lease.json", "_publish.json"):
        (tmp_path / name).write_bytes(b"PAR1")
    (tmp_path / "_snapshot.json").touch()
    assert list(opened(tmp_path).parts) == [f"part-{A}.parquet"]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", ".nfs0001"])
def test_what_desktops_leave_behind_is_no_strangers_file(tmp_path: pathlib.Path, name: str) -> None:
    commit(tmp_path, A, 1)
    (tmp_path / name).touch()
    assert opened(tmp_path).rows == 1


def test_a_command_about_an_output_needs_one(tmp_path: pathlib.Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="holds no output of this program"):
            open_finished(str(directory))
    commit(tmp_path, A, 1)
    assert open_finished(str(tmp_path)).refresh().rows == 1


# What is committed


def test_rows_and_error_rows_are_committed_with_their_versions(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 2, [EmptyImageError("x"), CorruptImageError("y")])
    commit(tmp_path, B, 1)
    commit(tmp_path, C, 0, [CorruptImageError("z")])
    output = opened(tmp_path)
    assert committed_ids(output) == {
        f"{A}/0": "v0",
        f"{A}/1": "v1",
        f"{A}/2": "v2",
        f"{A}/3": "v3",
        f"{B}/0": "v0",
        f"{C}/0": "v0",
    }
    assert (output.rows, output.errors) == (3, 3)
    assert error_types(output) == {"CorruptImageError": 2, "EmptyImageError": 1}


def test_ids_are_told_part_by_part_rows_apart_from_error_rows(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 1, [EmptyImageError("x")])
    commit(tmp_path, B, 1)
    [first, second] = opened(tmp_path).ids()
    assert (first.name, second.name) == (f"part-{A}.parquet", f"part-{B}.parquet")
    assert first.rows.to_pylist() == [{"id": f"{A}/0", "uri": "a.png", "version": "v0"}]
    assert first.errors.select(["id", "uri", "version"]).to_pylist() == [
        {"id": f"{A}/1", "uri": "a.png", "version": "v1"}
    ]
    assert first.errors["stage"].to_pylist() == ["decode"]
    assert second.errors.to_pylist() == []


def test_a_hundred_parts_are_all_read_in_order(tmp_path: pathlib.Path) -> None:
    shards = [f"{number:016x}" for number in range(100)]
    for shard in shards:
        commit(tmp_path, shard, 1)
    output = opened(tmp_path)
    assert output.rows == 100
    assert [part.rows["id"].to_pylist() for part in output.ids()] == [[f"{s}/0"] for s in shards]


def test_error_rows_without_a_part_and_temporaries_do_not_count(tmp_path: pathlib.Path) -> None:
    path = orphan(tmp_path)
    part = commit(tmp_path, A, 2, [CorruptImageError("y")])
    (tmp_path / "_tmp-0123-part-1.parquet").write_bytes(b"PAR1")
    (tmp_path / "_errors" / "_tmp-0123-x.parquet").write_bytes(b"PAR1")
    output = opened(tmp_path)
    assert list(committed_ids(output)) == [f"{A}/0", f"{A}/1", f"{A}/2"]
    assert (output.rows, output.errors) == (2, 1)
    assert error_types(output) == {"CorruptImageError": 1}
    assert output.files == [f"part-{A}.parquet", f"_errors/{part.errors_file}"]
    assert path.exists()


def test_what_replaces_parts_does_not_count_before_it_is_published(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 1)
    commit(tmp_path / "_staging", B, 1)
    commit(tmp_path / "_copies", C, 1)
    assert opened(tmp_path).files == [f"part-{A}.parquet"]


def test_a_missing_file_of_error_rows_is_a_mistake_that_names_it(tmp_path: pathlib.Path) -> None:
    """As after somebody deleted `_errors/`; nobody can tell then which images are done."""
    part = commit(tmp_path, A, 3, [EmptyImageError("x")])
    assert part.errors_file is not None
    (tmp_path / "_errors" / part.errors_file).unlink()
    with pytest.raises(UserError, match=f"{part.errors_file}: cannot be read") as info:
        committed_ids(opened(tmp_path))
    assert "delete the part of that shard" in str(info.value)


def test_refreshing_sees_the_parts_that_came_and_went_since(tmp_path: pathlib.Path) -> None:
    output = opened(tmp_path)
    commit(tmp_path, A, 2)
    assert output.rows == 0
    assert output.refresh() is output
    assert output.rows == 2
    commit(tmp_path, B, 3)
    assert output.refresh().rows == 5
    (tmp_path / f"part-{A}.parquet").unlink()
    assert output.refresh().rows == 3


def test_an_output_is_a_value_that_copies_its_parts(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 2)
    first = opened(tmp_path)
    second = dataclasses.replace(first, parts=dict(first.parts))
    commit(tmp_path, B, 2)
    assert (second.refresh().rows, first.rows) == (4, 2)


def test_each_name_that_the_program_gives_is_known_as_its_own(tmp_path: pathlib.Path) -> None:
    for name in (f"part-{A}.parquet", "_tmp-1-x.tmp", "_errors", "_lease.json", "_snapshot.json"):
        assert is_ours(name)
    for name in (f"part-{A}.parquet.bak", "part-1.parquet", "_metadata", "errors"):
        assert not is_ours(name)
