"""Links, pipes and files among the names of an output lead nowhere: they are refused, by name."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import pytest

from pipeline.output import publish, run_record
from pipeline.output.directory import Output, open_finished, open_output
from pipeline.output.lease import read_lease, refuse_if_held
from pipeline.output.previous import Keeping
from tests.helpers.limits import within_limits
from tests.helpers.outputs import A, commit, names_in, opened
from transforms.dataset import snapshot
from transforms.dataset.part import read_part
from transforms.dataset.snapshot import load_features
from transforms.errors import CorruptImageError, UserError

PART = f"part-{A}.parquet"
DIRECTORIES = ["_errors", "_staging", "_copies", "_plan", "_previous"]
BELOW = ["_staging/_errors", "_copies/_errors", "_previous/1-1", "_previous/1-1/_errors"]
FILES = [
    *("_run.json", "_SUCCESS", "_lease.json", "_publish.json", "_snapshot.json", PART),
    *(f"_staging/{PART}", f"_previous/1-1/{PART}", f"_errors/{A}-01234567.parquet"),
    "_plan/0123456789ab.json",
    "_plan/0123456789ab-00000.parquet",
]


@pytest.fixture
def output(tmp_path: pathlib.Path) -> pathlib.Path:
    """A finished output, and a directory of somebody else that looks like parts of it."""
    for name in ("out", "victim"):
        commit(tmp_path / name, A, 2, [CorruptImageError("x")])
        found = opened(tmp_path / name)
        snapshot.write_snapshot(found.directory, 1, found.files)
    return tmp_path / "out"


def put(output: pathlib.Path, name: str, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """Puts something in the place of one of our names."""
    path = output / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rename(output.parent / "away")
    make(path)
    return path


def to_the_victims(path: pathlib.Path) -> None:
    victim = path.parents[len(path.parts) - 1 - path.parts.index("out")] / "victim"
    is_file = path.suffix or path.name == "_SUCCESS"
    path.symlink_to(victim / PART if is_file else victim)


def refused(output: pathlib.Path, path: pathlib.Path) -> None:
    """By whoever opens the output; nothing has changed."""
    before = names_in(output.parent)
    for opens in (open_output, open_finished):
        with pytest.raises(UserError) as info:
            within_limits(opens, str(output))
        assert str(info.value).startswith(f"{path}: is ")
        assert "nothing was done" in str(info.value)
    assert names_in(output.parent) == before


@pytest.mark.parametrize("name", [*DIRECTORIES, *BELOW, *FILES])
def test_a_link_is_refused(output: pathlib.Path, name: str) -> None:
    refused(output, put(output, name, to_the_victims))


@pytest.mark.parametrize("name", ["_errors", "_lease.json", PART])
def test_a_link_to_nowhere_is_refused(output: pathlib.Path, name: str) -> None:
    refused(output, put(output, name, lambda path: path.symlink_to("nowhere")))


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_file_in_the_place_of_a_directory_is_refused(output: pathlib.Path, name: str) -> None:
    refused(output, put(output, name, pathlib.Path.touch))


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_the_place_of_a_file_is_refused(output: pathlib.Path, name: str) -> None:
    refused(output, put(output, name, os.mkfifo))


def test_an_output_that_is_itself_behind_a_link_is_fine(output: pathlib.Path) -> None:
    (output.parent / "latest").symlink_to("out")
    assert opened(output.parent / "latest").rows == 2
    assert load_features(str(output.parent / "latest")).num_rows == 2


# Put there when the output is open already


def ids_of_error_rows(directory: str) -> int:
    return sum(len(part.errors) for part in Output(directory).refresh().ids())


@pytest.mark.parametrize("name", ["_errors", PART, "_snapshot.json", "_lease.json"])
@pytest.mark.parametrize("make", [to_the_victims, os.mkfifo])
def test_nothing_is_opened_through_a_link_or_a_pipe(
    output: pathlib.Path, name: str, make: Callable[[pathlib.Path], None]
) -> None:
    path = put(output, name, make)
    reads: Callable[..., object] = {
        "_errors": ids_of_error_rows,
        PART: load_features,
        "_snapshot.json": snapshot.read_snapshot,
        "_lease.json": lease_of,
    }[name]
    with pytest.raises((OSError, ValueError)) as info:
        within_limits(reads, str(output))
    assert str(path) in str(info.value)
    assert "link" in str(info.value) or "regular file" in str(info.value)


def lease_of(directory: str) -> None:
    read_lease(Output(directory))


def test_a_part_is_no_link(output: pathlib.Path) -> None:
    path = put(output, PART, to_the_victims)
    with pytest.raises(OSError, match="is a link"):
        within_limits(read_part, str(path))


def test_a_pipe_in_the_place_of_a_lease_is_not_waited_for(output: pathlib.Path) -> None:
    put(output, "_lease.json", os.mkfifo)
    with pytest.raises(UserError, match=r"_lease\.json.*is no regular file"):
        within_limits(refuse_if_held, Output(str(output)))


def finish(directory: str) -> None:
    run_record.finish(Output(directory).refresh(), {}, Keeping(), lambda: None)


def clear(directory: str) -> None:
    run_record.clear_temporaries(Output(directory))


def roll_forward(directory: str) -> None:
    publish.roll_forward(Output(directory), lambda: None)


@pytest.mark.parametrize("does", [finish, clear, roll_forward])
@pytest.mark.parametrize("name", ["_errors", "_previous"])
def test_nothing_is_deleted_through_a_link(
    output: pathlib.Path, does: Callable[[str], None], name: str
) -> None:
    put(output, name, to_the_victims)
    (output.parent / "victim" / "_tmp-0123").touch()
    before = names_in(output.parent / "victim")
    with pytest.raises(UserError, match="is a link"):
        within_limits(does, str(output))
    assert names_in(output.parent / "victim") == before
