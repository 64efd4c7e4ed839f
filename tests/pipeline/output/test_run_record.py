"""Whose an output is, what says that it is finished, and the command that made it."""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.output import run_record
from pipeline.output.accounting import DuplicateIdsError, check_ids_unique
from pipeline.output.directory import Output, open_output
from pipeline.output.lease import LeaseLostError
from pipeline.output.previous import Keeping
from tests.helpers.outputs import (
    SETTINGS,
    A,
    B,
    commit,
    names_in,
    opened,
    orphan,
)
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.part import FOOTER_KEY
from transforms.errors import CorruptImageError, UserError


def mistake(directory: pathlib.Path, fingerprint: dict[str, str] = SETTINGS) -> str:
    """What is told of a directory that cannot be continued with these settings: one line."""
    with pytest.raises(UserError) as info:
        run_record.refuse_other_settings(open_output(str(directory)), fingerprint)
    message = str(info.value)
    assert message.startswith(f"--output {directory}")
    assert len(message.splitlines()) == 1
    return message


# One output, one fingerprint


def test_the_same_settings_continue(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 3)
    output = open_output(str(tmp_path))
    run_record.refuse_other_settings(output, SETTINGS)
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
    table = pa.table({"a": [1]}).replace_schema_metadata({FOOTER_KEY: b'{"shard": "a"}'})
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


# Start, finish

RUN = "0123456789ab"


def finish(output: Output, report: dict) -> None:
    run_record.clear_temporaries(output)
    run_record.finish(output, {"run_id": RUN} | report, Keeping(), lambda: None)


def test_finishing_removes_what_is_temporary_and_says_so_last(tmp_path: pathlib.Path) -> None:
    path = orphan(tmp_path)
    part = commit(tmp_path, A, 2, [CorruptImageError("y")])
    (tmp_path / "_tmp-0123-part-1.parquet").write_bytes(b"PAR1")
    (tmp_path / "_errors" / "_tmp-0123-x.parquet").write_bytes(b"PAR1")
    (tmp_path / "_plan").mkdir()
    (tmp_path / "_plan" / "p-00000.parquet").touch()
    report = {"run_id": RUN, "counts": {"rows": 2}, "command": "ä"}
    finish(opened(tmp_path), report)

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


def test_a_run_that_failed_its_checks_leaves_what_readers_go_by(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 2)
    finish(opened(tmp_path), {"succeeded": True})
    before = (tmp_path / "_snapshot.json").read_bytes()
    run_record.start(opened(tmp_path), {"run_id": RUN})
    commit(tmp_path, B, 2)
    run_record.finish_unpublished(opened(tmp_path), {"succeeded": False}, lambda: None)
    assert json.loads((tmp_path / "_run.json").read_text())["succeeded"] is False
    assert (tmp_path / "_snapshot.json").read_bytes() == before
    parts = [f"part-{shard}.parquet" for shard in (A, B)]
    assert names_in(tmp_path) == ["_SUCCESS", "_run.json", "_snapshot.json", *parts]


def test_who_lost_the_output_does_not_finish_it(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 2)

    def look() -> None:
        raise LeaseLostError

    with pytest.raises(LeaseLostError):
        run_record.finish(opened(tmp_path), {}, Keeping(), look)
    assert names_in(tmp_path) == [f"part-{A}.parquet"]


def test_a_part_that_was_computed_again_has_its_new_checksum(tmp_path: pathlib.Path) -> None:
    """Damaged, deleted as `verify` advises, and made again under the same name."""
    commit(tmp_path, A, 2)
    finish(opened(tmp_path), {})
    path = tmp_path / f"part-{A}.parquet"
    first = snapshot.read_snapshot(str(tmp_path))
    path.unlink()
    commit(tmp_path, A, 2, seconds=2.0)
    os.utime(path, (time.time() + 1, time.time() + 1))
    finish(opened(tmp_path), {})
    second = snapshot.read_snapshot(str(tmp_path))
    assert first.checksums[path.name] != second.checksums[path.name] == storage.checksum(str(path))
    assert second.generation == first.generation + 1


def test_finishing_lists_the_parts_that_readers_go_by(tmp_path: pathlib.Path) -> None:
    part = commit(tmp_path, A, 2, [CorruptImageError("y")])
    finish(opened(tmp_path), {})
    first = snapshot.read_snapshot(str(tmp_path))
    assert sorted(first.checksums) == [f"_errors/{part.errors_file}", f"part-{A}.parquet"]
    finish(opened(tmp_path), {})
    assert snapshot.read_snapshot(str(tmp_path)) == first  # nothing changed
    commit(tmp_path, B, 2)
    finish(opened(tmp_path), {})
    second = snapshot.read_snapshot(str(tmp_path))
    assert second.parts == [f"part-{A}.parquet", f"part-{B}.parquet"]
    assert second.generation > first.generation


def test_starting_in_a_new_directory_makes_it(tmp_path: pathlib.Path) -> None:
    run_record.start(opened(tmp_path / "new" / "er"), {"run_id": RUN})
    assert names_in(tmp_path / "new" / "er") == ["_plan", f"_plan/{RUN}.json"]


def test_an_id_that_is_there_twice_is_seen(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 2, [CorruptImageError("y")])
    check_ids_unique([opened(tmp_path)])
    (tmp_path / f"part-{B}.parquet").write_bytes((tmp_path / f"part-{A}.parquet").read_bytes())
    with pytest.raises(DuplicateIdsError, match=f"part-{B}.*{A}/0.*is in another part"):
        check_ids_unique([opened(tmp_path)])


def test_an_id_in_what_is_about_to_be_published_is_seen_too(tmp_path: pathlib.Path) -> None:
    commit(tmp_path, A, 2)
    commit(tmp_path / "_staging", B, 1, [CorruptImageError("y")])
    staging = Output(str(tmp_path / "_staging")).refresh()
    check_ids_unique([opened(tmp_path), staging])
    commit(tmp_path / "_copies", A, 1)
    copies = Output(str(tmp_path / "_copies")).refresh()
    with pytest.raises(DuplicateIdsError, match=f"_copies/part-{A}.*{A}/0"):
        check_ids_unique([opened(tmp_path), staging, copies])


def test_the_command_is_kept_without_its_secrets() -> None:
    flags = ["--input", "a b", "--s3_secret_access_key=HUNTER2", "--s3_session_token", "HUNTER3"]
    command = run_record.command_line([*flags, "--output", "out"])
    assert "HUNTER" not in command
    assert command.startswith("python -m pipeline.run --input 'a b' ")
    assert "--s3_secret_access_key=***" in command
    assert command.endswith("--output out")


def test_the_command_can_be_typed_again() -> None:
    argv = ["--input", "my photos/*.jpg", "--output", "out"]
    command = run_record.command_line(argv)
    assert shlex.split(command) == ["python", "-m", "pipeline.run", *argv]
