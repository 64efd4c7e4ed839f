"""What an output directory holds, whose it is, and what is counted."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shlex
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import manifest
from pipeline.output import Output, open_output
from transforms import parts, storage
from transforms.batches import BatchPlace, FeatureBatch, ImageRow
from transforms.errors import CorruptImageError, EmptyImageError, UserError, error_row
from transforms.part_format import PartFormat
from transforms.parts import Part, PartWriter
from transforms.refs import ImageRef

SETTINGS = {"model_sha256": "abc", "task": "feature_vector", "pixels": "exact"}
A, B = "a" * 16, "b" * 16


def commit(
    output: pathlib.Path,
    shard: str,
    rows: int,
    errors: Sequence[Exception] = (),
    fingerprint: dict[str, str] = SETTINGS,
) -> Part:
    """Commits a part; ids are `<shard>/0`, `<shard>/1`, …, versions `v0`, `v1`, …."""
    part_format = PartFormat(
        "feature_vector", width=2, fingerprint=tuple(sorted(fingerprint.items()))
    )
    size = rows + len(errors)
    refs = [ImageRef(f"{shard}/{number}", "a.png", f"v{number}") for number in range(size)]
    batch = FeatureBatch(
        np.ones((rows, 2), np.float32),
        tuple(ImageRow(ref, 20, 30) for ref in refs[:rows]),
        tuple(
            error_row(ref, "decode", error) for ref, error in zip(refs[rows:], errors, strict=True)
        ),
        BatchPlace(shard, size, 0, size),
        read_seconds=1.0,
        decode_seconds=2.0,
        infer_seconds=3.0,
    )
    writer = PartWriter(str(output), part_format, batch.place)
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


def mistake(directory: pathlib.Path, fingerprint: dict[str, str] = SETTINGS) -> str:
    """What is told of a directory that cannot be continued with these settings: one line."""
    with pytest.raises(UserError) as info:
        manifest.check_parts(open_output(str(directory)), fingerprint)
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
    message = mistake(tmp_path)
    assert f"such as {name}" in message
    assert (tmp_path / name).exists()


def test_a_directory_of_photos_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "cats").mkdir()
    assert "such as cats" in mistake(tmp_path)


def test_what_a_killed_run_leaves_is_no_stranger(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 1, [EmptyImageError("x")])
    (tmp_path / "_tmp-0123-part-1.parquet").write_bytes(b"PAR1")
    (tmp_path / "_plan").mkdir()
    (tmp_path / "_run.json").touch()
    output = open_output(str(tmp_path))
    manifest.check_parts(output, SETTINGS)
    assert list(output.parts) == [f"part-{A}.parquet"]


# One output, one fingerprint


def test_the_same_settings_continue(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 3)
    output = open_output(str(tmp_path))
    manifest.check_parts(output, SETTINGS)
    assert output.rows == 3


def test_other_settings_are_told_with_what_was_and_is(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 3)
    message = mistake(tmp_path, SETTINGS | {"pixels": "uint8", "task": "classification"})
    assert "pixels was exact, is uint8; task was feature_vector, is classification" in message
    assert "model_sha256" not in message
    assert "--overwrite" in message


def test_settings_that_one_of_both_lacks_differ(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 3)
    assert "engine was None, is openvino" in mistake(tmp_path, SETTINGS | {"engine": "openvino"})
    without = {name: value for name, value in SETTINGS.items() if name != "pixels"}
    assert "pixels was exact, is None" in mistake(tmp_path, without)


def test_one_part_of_other_settings_among_many_is_found(tmp_path: pathlib.Path) -> None:
    for number in range(5):
        commit(tmp_path, f"{number:016x}", 1)
    commit(tmp_path, A, 1, fingerprint=SETTINGS | {"pixels": "uint8"})
    assert "pixels was uint8, is exact" in mistake(tmp_path)


def damage_by_truncation(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_by_garbage(path: pathlib.Path) -> None:
    path.write_bytes(b"PAR1 this is no Parquet file")


def damage_by_emptiness(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def replace_by_another_programs(path: pathlib.Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def replace_by_another_versions(path: pathlib.Path) -> None:
    """Its footer is ours, but lacks what this version writes."""
    table = pa.table({"a": [1]}).replace_schema_metadata({parts.FOOTER_KEY: b'{"shard": "a"}'})
    pq.write_table(table, path)


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_truncation,
        damage_by_garbage,
        damage_by_emptiness,
        replace_by_another_programs,
        replace_by_another_versions,
    ],
)
def test_a_part_that_cannot_be_read_is_named(tmp_path: pathlib.Path, damage) -> None:
    commit(tmp_path, A, 3)
    commit(tmp_path, B, 3)
    damage(tmp_path / f"part-{B}.parquet")
    message = mistake(tmp_path)
    assert "cannot be read" in message
    assert f"part-{B}.parquet" in message


def test_a_missing_file_of_error_rows_is_a_mistake_that_names_it(tmp_path: pathlib.Path) -> None:
    """As after somebody deleted `_errors/`; nobody can tell then which images are done."""
    part = commit(tmp_path, A, 3, [EmptyImageError("x")])
    assert part.errors_file is not None
    (tmp_path / "_errors" / part.errors_file).unlink()
    output = open_output(str(tmp_path))
    with pytest.raises(UserError, match=part.errors_file):
        manifest.check_parts(output, SETTINGS)
        committed_ids(output)


# What is committed


def test_rows_and_error_rows_are_committed_with_their_versions(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 2, [EmptyImageError("x"), CorruptImageError("y")])
    commit(tmp_path, B, 1)
    commit(tmp_path, "c" * 16, 0, [CorruptImageError("z")])
    output = opened(tmp_path)
    assert committed_ids(output) == {
        f"{A}/0": "v0",
        f"{A}/1": "v1",
        f"{A}/2": "v2",
        f"{A}/3": "v3",
        f"{B}/0": "v0",
        f"{'c' * 16}/0": "v0",
    }
    assert (output.rows, output.errors) == (3, 3)
    assert output.error_types() == {"CorruptImageError": 2, "EmptyImageError": 1}


def orphan(output: pathlib.Path) -> pathlib.Path:
    """An error file that no part names, as a run leaves that is killed before the part."""
    part = commit(output, B, 0, [EmptyImageError("orphan")])
    (output / f"part-{B}.parquet").unlink()
    assert part.errors_file is not None
    return output / "_errors" / part.errors_file


def test_error_rows_without_a_part_and_temporaries_do_not_count(tmp_path: pathlib.Path) -> None:
    path = orphan(tmp_path)
    commit(tmp_path, A, 2, [CorruptImageError("y")])
    (tmp_path / "_tmp-0123-part-1.parquet").write_bytes(b"PAR1")
    (tmp_path / "_errors" / "_tmp-0123-x.parquet").write_bytes(b"PAR1")
    output = opened(tmp_path)
    assert list(committed_ids(output)) == [f"{A}/0", f"{A}/1", f"{A}/2"]
    assert (output.rows, output.errors) == (2, 1)
    assert output.error_types() == {"CorruptImageError": 1}
    assert path.exists()


def test_seconds_are_summed_over_the_shards_asked_for(tmp_path: pathlib.Path) -> None:
    for shard in (A, B, "c" * 16):
        commit(tmp_path, shard, 1)
    seconds = opened(tmp_path).seconds({A, B})
    assert (seconds["read"], seconds["decode"], seconds["infer"]) == (2.0, 4.0, 6.0)
    assert opened(tmp_path).seconds(set()) == {}


def test_refreshing_adds_the_parts_that_came_since(tmp_path: pathlib.Path) -> None:
    output = opened(tmp_path)
    commit(tmp_path, A, 2)
    assert output.rows == 0
    assert output.refresh() is output
    assert output.rows == 2
    commit(tmp_path, B, 3)
    assert output.refresh().rows == 5
    assert output.refresh().rows == 5


# Start, finish, overwrite

RUN = "0123456789ab"


def finish(output: Output, report: dict, succeeded: bool) -> None:
    manifest.clear_temporaries(output)
    manifest.finish(output, {"run_id": RUN} | report, succeeded)


def test_finishing_removes_what_is_temporary_and_says_so_last(tmp_path: pathlib.Path) -> None:
    path = orphan(tmp_path)
    part = commit(tmp_path, A, 2, [CorruptImageError("y")])
    (tmp_path / "_tmp-0123-part-1.parquet").write_bytes(b"PAR1")
    (tmp_path / "_errors" / "_tmp-0123-x.parquet").write_bytes(b"PAR1")
    (tmp_path / "_plan").mkdir()
    (tmp_path / "_plan" / "p-00000.parquet").touch()
    report = {"run_id": RUN, "counts": {"rows": 2}, "command": "ä"}
    finish(opened(tmp_path), report, succeeded=True)

    assert names_in(tmp_path) == [
        "_SUCCESS",
        "_errors",
        f"_errors/{part.errors_file}",
        "_run.json",
        "_snapshot.json",
        f"part-{A}.parquet",
    ]
    assert not path.exists()
    assert json.loads((tmp_path / "_run.json").read_text("utf-8")) == report
    assert (tmp_path / "_SUCCESS").read_bytes() == b""


def test_a_failed_run_has_its_report_and_no_success(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 2)
    finish(opened(tmp_path), {"succeeded": True}, succeeded=True)
    manifest.start(opened(tmp_path), {"run_id": RUN})
    assert not (tmp_path / "_SUCCESS").exists()
    finish(opened(tmp_path), {"succeeded": False}, succeeded=False)
    assert json.loads((tmp_path / "_run.json").read_text())["succeeded"] is False
    assert names_in(tmp_path) == ["_run.json", "_snapshot.json", f"part-{A}.parquet"]


def test_starting_in_a_new_directory_makes_it(tmp_path: pathlib.Path) -> None:
    manifest.start(opened(tmp_path / "new" / "er"), {"run_id": RUN})
    assert names_in(tmp_path / "new" / "er") == ["_plan", f"_plan/{RUN}.json"]


def test_an_id_that_is_there_twice_is_seen(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 2, [CorruptImageError("y")])
    manifest.check_ids_unique([opened(tmp_path)])
    (tmp_path / f"part-{B}.parquet").write_bytes((tmp_path / f"part-{A}.parquet").read_bytes())
    with pytest.raises(manifest.DuplicateIdsError, match=f"part-{B}.*{A}/0.*is in another part"):
        manifest.check_ids_unique([opened(tmp_path)])


def test_the_command_is_kept_without_its_secrets() -> None:
    flags = ["--input", "a b", "--s3_secret_access_key=HUNTER2", "--s3_session_token", "HUNTER3"]
    command = manifest.command_line([*flags, "--output", "out"])
    assert "HUNTER" not in command
    assert command.startswith("python -m pipeline.run --input 'a b' ")
    assert "--s3_secret_access_key=***" in command
    assert command.endswith("--output out")


def test_what_desktops_leave_behind_is_no_strangers_file(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 1)
    (tmp_path / ".DS_Store").touch()
    output = opened(tmp_path)
    manifest.overwrite(output)
    assert names_in(tmp_path) == [".DS_Store"]


def test_overwriting_deletes_the_earlier_output(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 2, [CorruptImageError("y")])
    commit(tmp_path, B, 2, fingerprint={"other": "settings"})
    damage_by_truncation(tmp_path / f"part-{A}.parquet")
    finish(Output(str(tmp_path)), {}, succeeded=True)
    (tmp_path / "_tmp-0123-part-1.parquet").write_bytes(b"PAR1")
    output = open_output(str(tmp_path))
    manifest.overwrite(output)
    manifest.check_parts(output, SETTINGS)
    assert (names_in(tmp_path), output.parts) == ([], {})


SPARK_PART = "part-00000-d2f8b6a0-4c1e-4b1f-9f0a-1f6c6d1a7b3e-c000.snappy.parquet"


def test_overwriting_never_deletes_the_parts_of_another_program(tmp_path: pathlib.Path) -> None:
    """Spark's output looks like ours: `part-….parquet` and `_SUCCESS`."""
    pq.write_table(pa.table({"precious": [1]}), tmp_path / SPARK_PART)
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(UserError, match="not of this program"):
        manifest.overwrite(open_output(str(tmp_path)))
    assert (tmp_path / SPARK_PART).exists()


def test_another_programs_parts_are_never_offered_to_be_deleted(tmp_path: pathlib.Path) -> None:
    pq.write_table(pa.table({"precious": [1]}), tmp_path / SPARK_PART)
    message = mistake(tmp_path)
    assert SPARK_PART in message
    assert "delete that file" not in message
    assert "--overwrite" not in message


@pytest.mark.parametrize("deletions", range(5))
def test_an_overwriting_that_was_interrupted_leaves_a_directory_that_can_be_continued(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, deletions: int
) -> None:
    commit(tmp_path, A, 2, [CorruptImageError("y")])
    finish(opened(tmp_path), {}, succeeded=True)
    delete, deleted = storage.delete, []

    def delete_until_interrupted(paths: list[str]) -> None:
        for path in paths:
            if len(deleted) == deletions:
                raise KeyboardInterrupt
            delete([path])
            deleted.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(storage, "delete", delete_until_interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            manifest.overwrite(opened(tmp_path))

    output = open_output(str(tmp_path))
    manifest.check_parts(output, SETTINGS)
    assert len(committed_ids(output)) == output.rows + output.errors
    assert deletions == 0 or not (tmp_path / "_SUCCESS").exists()


def test_the_command_can_be_typed_again() -> None:
    argv = ["--input", "my photos/*.jpg", "--output", "out"]
    command = manifest.command_line(argv)
    assert shlex.split(command) == ["python", "-m", "pipeline.run", *argv]


def test_an_output_is_a_value_that_copies_its_parts(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 2)
    first = opened(tmp_path)
    second = dataclasses.replace(first, parts=dict(first.parts))
    commit(tmp_path, B, 2)
    assert (second.refresh().rows, first.rows) == (4, 2)
