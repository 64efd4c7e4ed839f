"""A change appears as a whole, step by step under the lease, and what it replaces stays a while."""

from __future__ import annotations

import json
import pathlib
import shutil
import time

import pytest

from pipeline.output import previous, publish
from pipeline.output.directory import Output
from pipeline.output.lease import LeaseLostError
from pipeline.output.previous import Keeping
from tests.helpers import simulated_nights, small_night
from tests.helpers.outputs import A, B, commit, committed_ids, names_in, opened
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.snapshot import load_features, open_features
from transforms.errors import CorruptImageError


def held() -> None:
    """The lease is ours."""


def change_of(directory: pathlib.Path) -> tuple[Output, publish.Change]:
    """An output of part A, as a snapshot has it, for which part B is staged in its place."""
    commit(directory, A, 3, [CorruptImageError("y")])
    output = opened(directory)
    snapshot.write_snapshot(output.directory, 1, output.files)
    commit(directory / "_staging", B, 2, [CorruptImageError("z")])
    return output, publish.replacing_all(output, {})


def ids(directory: pathlib.Path) -> list[str]:
    """What a reader sees."""
    return load_features(str(directory), ["id"])["id"].to_pylist()


def test_all_of_it_is_replaced(tmp_path: pathlib.Path) -> None:
    output, change = change_of(tmp_path)
    publish.publish(output, change, Keeping(snapshots=0), held)
    assert ids(tmp_path) == [f"{B}/0", f"{B}/1"]
    assert committed_ids(opened(tmp_path)).keys() == {f"{B}/{n}" for n in range(3)}
    assert [name for name in names_in(tmp_path) if A in name] == []


def test_what_cannot_be_read_any_more_is_replaced_too(tmp_path: pathlib.Path) -> None:
    output, _ = change_of(tmp_path)
    (tmp_path / f"part-{A}.parquet").write_bytes(b"PAR1 and then nothing")
    for name in ("_publish.json", "_snapshot.json"):
        (tmp_path / name).write_text("{")
    publish.discard_damaged(output)
    publish.publish(output, publish.replacing_all(output, {}), Keeping(snapshots=0), held)
    assert ids(tmp_path) == [f"{B}/0", f"{B}/1"]


def test_a_part_that_arrives_is_not_removed(tmp_path: pathlib.Path) -> None:
    """Whatever the names: what was computed is never deleted for what was there."""
    commit(tmp_path, A, 1)
    commit(tmp_path / "_staging", A, 2)
    output = opened(tmp_path)
    publish.publish(output, publish.replacing_all(output, {}), Keeping(snapshots=0), held)
    assert ids(tmp_path) == [f"{A}/0", f"{A}/1"]


@pytest.mark.parametrize("looks", range(8))
def test_who_lost_the_output_moves_and_deletes_nothing_more(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """The lease is lost after so many looks; who holds it then brings the change to its end."""
    monkeypatch.setattr(publish, "_LOOK_SECONDS", 0.0)
    output, change = change_of(tmp_path)
    left: list[list[str]] = []

    def look() -> None:
        if len(left) >= looks:
            if len(left) == looks:
                left.append(names_in(tmp_path))
            raise LeaseLostError
        left.append([])

    try:
        publish.publish(output, change, Keeping(), look)
    except LeaseLostError:
        assert names_in(tmp_path) == left[-1]
    else:
        pytest.fail("there are more steps than looks")
    decided = (tmp_path / "_publish.json").exists()
    assert decided == (looks > 0)
    assert publish.roll_forward(opened(tmp_path), held) == decided
    assert ids(tmp_path) == [f"{B}/{n}" for n in range(2)] if decided else [f"{A}/0"]


def test_a_step_looks_when_the_last_look_is_old(tmp_path: pathlib.Path) -> None:
    output, change = change_of(tmp_path)
    looks: list[float] = []
    publish.publish(output, change, Keeping(), lambda: looks.append(time.monotonic()))
    assert 2 <= len(looks) <= 4  # before the journal and at the first step; then within a second


# What was replaced


def test_who_reads_a_snapshot_reads_on_when_it_is_replaced(tmp_path: pathlib.Path) -> None:
    output, change = change_of(tmp_path)
    epoch = open_features(str(tmp_path))
    before = epoch.to_table()
    publish.publish(output, change, Keeping(), held)
    assert epoch.to_table().equals(before)
    [kept] = (tmp_path / "_previous").iterdir()
    assert kept.name.startswith("1-")
    assert names_in(kept) == [
        "_errors",
        *sorted([f"_errors/{change.removes[1][8:]}"]),
        change.removes[0],
    ]


def replaced(directory: pathlib.Path, generation: int, hours: float) -> pathlib.Path:
    path = directory / "_previous" / f"{generation}-{int(time.time() - hours * 3600)}"
    path.mkdir(parents=True)
    (path / f"part-{A}.parquet").touch()
    return path


@pytest.mark.parametrize(
    ("keeping", "stay"),
    [
        (Keeping(0), []),
        (Keeping(1), [4]),
        (Keeping(2), [4, 3]),
        (Keeping(0, hours=1.5), [4]),
        (Keeping(0, hours=2.5), [4, 3]),
        (Keeping(1, hours=100), [4, 3, 2]),
    ],
)
def test_what_was_replaced_stays_for_some_generations_or_hours(
    tmp_path: pathlib.Path, keeping: Keeping, stay: list[int]
) -> None:
    paths = {of: replaced(tmp_path, of, hours) for of, hours in ((4, 1), (3, 2), (2, 50))}
    previous.clear(Output(str(tmp_path)), 5, keeping)
    assert [of for of, path in paths.items() if path.exists()] == stay


def test_what_is_not_ours_stays(tmp_path: pathlib.Path) -> None:
    other = tmp_path / "_previous" / "notes"
    other.mkdir(parents=True)
    previous.clear(Output(str(tmp_path)), 5, Keeping(0))
    assert other.exists()


def test_a_journal_of_an_earlier_program_is_brought_to_its_end(tmp_path: pathlib.Path) -> None:
    """It says nothing of where what is replaced goes: it is deleted, as it was to be."""
    output, change = change_of(tmp_path)
    moves = [[f"_staging/{name}", name] for name in change.added[0].files[::-1]]
    journal = {"generation": 2, "moves": moves, "removes": change.removes}
    (tmp_path / "_publish.json").write_text(json.dumps(journal))
    assert publish.roll_forward(output, held)
    assert ids(tmp_path) == [f"{B}/0", f"{B}/1"]
    assert not (tmp_path / "_previous").exists()


# A launcher that slept between its look at the lease and the next step


def test_a_journal_whose_parts_another_run_has_cleared_away_is_not_carried_out(
    tmp_path: pathlib.Path,
) -> None:
    output, change = change_of(tmp_path)

    def sleep_meanwhile() -> None:  # the look is the last one before the journal
        shutil.rmtree(tmp_path / "_staging", ignore_errors=True)

    with pytest.raises(RuntimeError, match="nothing was published"):
        publish.publish(output, change, Keeping(), sleep_meanwhile)
    assert not (tmp_path / "_publish.json").exists()
    assert ids(tmp_path) == [f"{A}/{n}" for n in range(3)]
    assert len(committed_ids(opened(tmp_path))) == 4


def test_what_readers_go_by_is_never_removed(tmp_path: pathlib.Path) -> None:
    """A journal that comes late, when another run has published a state with these parts."""
    output, change = change_of(tmp_path)
    journal = {"generation": 1, "moves": [], "removes": change.removes}
    (tmp_path / "_publish.json").write_text(json.dumps(journal))
    assert publish.roll_forward(output, held)
    assert ids(tmp_path) == [f"{A}/{n}" for n in range(3)]


def test_what_was_to_be_replaced_may_be_gone_already(tmp_path: pathlib.Path) -> None:
    """A damaged part was deleted, as advised, after a launcher was killed in the middle."""
    output, change = change_of(tmp_path)

    def killed() -> None:
        if (tmp_path / "_publish.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish.publish(output, change, Keeping(), killed)
    (tmp_path / f"part-{A}.parquet").unlink()
    assert publish.roll_forward(opened(tmp_path), held)
    assert ids(tmp_path) == [f"{B}/0", f"{B}/1"]
    assert not (tmp_path / "_publish.json").exists()


@pytest.mark.parametrize("place", [".", "_staging"])
def test_an_unpublished_part_whose_error_rows_are_gone_is_computed_again(
    tmp_path: pathlib.Path, place: str
) -> None:
    """Whoever deleted them was killed in the middle of it, or the part came late."""
    with simulated_nights.patched():
        output = str(tmp_path / "out")
        assert small_night.run(output, small_night.evening()) == 0
        settings = dict(small_night.FINGERPRINT)
        part = commit(tmp_path / "out" / place, A, 1, [CorruptImageError("y")], settings)
        (tmp_path / "out" / place / "_errors" / str(part.errors_file)).unlink()
        assert small_night.run(output, small_night.morning()) == 0
    assert committed_ids(Output(output).refresh()) == small_night.morning()


def test_a_second_journal_does_not_replace_the_first(tmp_path: pathlib.Path) -> None:
    output, change = change_of(tmp_path)
    (tmp_path / "_publish.json").write_text("of another run")
    with pytest.raises(RuntimeError, match="another run has begun to publish"):
        publish.publish(output, change, Keeping(), held)
    assert (tmp_path / "_publish.json").read_text() == "of another run"


def test_a_snapshot_that_another_run_has_written_stays(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, _ = change_of(tmp_path)
    checksum = storage.checksum

    def another_writes_meanwhile(path: str, directories: int) -> str:
        (tmp_path / "_snapshot.json").write_text('{"generation": 7, "checksums": {}}')
        return checksum(path, directories)

    monkeypatch.setattr(storage, "checksum", another_writes_meanwhile)
    commit(tmp_path, B, 2)
    with pytest.raises(RuntimeError, match="another run has written it meanwhile"):
        snapshot.update_snapshot(output.directory, output.refresh().files)
    assert snapshot.read_snapshot(output.directory).generation == 7
