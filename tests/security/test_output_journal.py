"""What an output says of files is no order: only our own names are moved, deleted or read."""

from __future__ import annotations

import json
import pathlib

import pyarrow.parquet as pq
import pytest

from pipeline.output import compaction, publish
from pipeline.output.directory import Output
from pipeline.output.previous import Keeping
from tests.helpers.limits import within_limits
from tests.helpers.outputs import A, B, commit, names_in, opened
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.part import FOOTER_KEY
from transforms.dataset.snapshot import load_features
from transforms.errors import CorruptImageError, UserError

VICTIM = "../victim/.bashrc"
PART = f"part-{B}.parquet"
ERRORS = f"_errors/{B}-01234567.parquet"


@pytest.fixture
def output(tmp_path: pathlib.Path) -> pathlib.Path:
    """A finished output of one part, and another one that waits; a file of somebody else."""
    commit(tmp_path / "out", A, 2, [CorruptImageError("x")])
    found = opened(tmp_path / "out")
    snapshot.write_snapshot(found.directory, 1, found.files)
    commit(tmp_path / "out" / "_staging", B, 2)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / ".bashrc").write_text("precious")
    return tmp_path / "out"


def roll_forward(directory: str) -> bool:
    return publish.roll_forward(Output(directory), lambda: None)


def gather(directory: str) -> int:
    return compaction.compact(Output(directory), 100, Keeping())


def change(rewritten: pathlib.Path, **values: object) -> None:
    """Changes what the footer of a part says."""
    footer = json.loads(pq.read_metadata(rewritten).metadata[FOOTER_KEY]) | values
    table = pq.read_table(rewritten)
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(footer)}), rewritten)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"moves": [[f"_staging/{PART}", VICTIM]]}, VICTIM),
        ({"moves": [[VICTIM, PART]]}, VICTIM),
        ({"moves": [[f"_staging/../{VICTIM}", PART]]}, "_staging/.."),
        ({"moves": [[f"_staging/{PART}", f"part-{A}.parquet"]]}, f"_staging/{PART}"),
        ({"moves": [[f"part-{A}.parquet", PART]]}, f"part-{A}"),
        ({"moves": [[f"_previous/1-1/{PART}", PART]]}, "_previous/1-1"),
        ({"removes": [VICTIM]}, VICTIM),
        ({"removes": ["/etc/hostname"]}, "/etc/hostname"),
        ({"removes": [f"_errors/../{VICTIM}"]}, "_errors/.."),
        ({"removes": ["."]}, "'.'"),
        ({"removes": ["_errors"]}, "'_errors'"),
        ({"removes": [f"{PART}\n"]}, PART),
        ({"removes": [f"part-{A}.parquet"], "previous": "../victim"}, "../victim"),
        ({"removes": [f"part-{A}.parquet"], "previous": "_previous/1-1/../.."}, "_previous/1-1/"),
        ({"removes": [f"part-{A}.parquet"], "previous": "_previous/²-1"}, "_previous/²-1"),
        ({"moves": 7}, "moves"),
        ({"moves": [[PART]]}, "moves"),
        ({"removes": [7]}, "removes"),
        ({"generation": "9"}, "generation"),
        ({"generation": True}, "generation"),
    ],
)
def test_a_journal_that_names_anything_else_does_nothing(
    output: pathlib.Path, told: dict[str, object], named: str
) -> None:
    journal = {"generation": 2, "moves": [], "removes": []} | told
    (output / "_publish.json").write_text(json.dumps(journal))
    before = names_in(output.parent)
    with pytest.raises(UserError) as info:
        within_limits(roll_forward, str(output))
    assert named in str(info.value)
    assert "nothing was done" in str(info.value)
    assert names_in(output.parent) == before
    assert (output.parent / "victim" / ".bashrc").read_text() == "precious"


def test_our_own_journal_is_brought_to_its_end(output: pathlib.Path) -> None:
    moves = [[f"_staging/{PART}", PART]]
    journal = {"generation": 2, "moves": moves, "removes": [f"part-{A}.parquet"]}
    (output / "_publish.json").write_text(json.dumps(journal | {"previous": "_previous/1-99"}))
    assert within_limits(roll_forward, str(output))
    assert load_features(str(output), ["id"])["id"].to_pylist() == [f"{B}/0", f"{B}/1"]


@pytest.mark.parametrize("file", [f"../{VICTIM}", "/etc/hostname", "..", f"{ERRORS[8:]}\n", ""])
def test_a_footer_that_names_another_file_is_refused(output: pathlib.Path, file: str) -> None:
    commit(output, "c" * 16, 2)
    change(output / f"part-{'c' * 16}.parquet", errors=1, errors_file=file)
    with pytest.raises(UserError, match="errors_file is not as it should be"):
        within_limits(gather, str(output))
    assert (output.parent / "victim" / ".bashrc").read_text() == "precious"


@pytest.mark.parametrize("name", [VICTIM, "/etc/hostname", "_run.json", f"_staging/{PART}"])
def test_a_snapshot_that_names_another_file_is_refused(output: pathlib.Path, name: str) -> None:
    path = output / "_snapshot.json"
    path.write_text(json.dumps({"generation": 1, "checksums": {name: "sha256:0"}}))
    with pytest.raises(UserError) as info:
        within_limits(load_features, str(output))
    assert name in str(info.value)


def test_files_of_others_among_the_error_rows_stay(output: pathlib.Path) -> None:
    """Whatever replaces all, or clears away: what has no name of ours is nobody's to delete."""
    (output / "_errors" / "notes.txt").write_text("precious")
    found = opened(output)
    change = publish.replacing_all(found, {})
    assert not any("notes" in name for name in change.removes)
    publish.publish(found, change, Keeping(snapshots=0), lambda: None)
    assert storage.list_names(str(output / "_errors")) == ["notes.txt"]
