"""Kept values that do not fit their column cost no image, whatever the first Example has."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import pyarrow as pa
import pytest

from consumers import load_warnings
from pipeline import verify
from tests.helpers.commands import Finished
from tests.helpers.images import write_random_images
from tests.helpers.records import Values, example, write_records
from transforms.dataset.snapshot import load_features

Run = Callable[..., Finished]

# The first Example lacks the label, lists vary in length, and some text is not UTF-8.
NIGHT_1: list[dict[str, Values]] = [
    {"boxes": [0.5], "text": [b"a"]},
    {"label": [1], "boxes": [0.5, 1.5], "text": [b"b"]},
    {"label": [2], "text": [b"caf\xe9"]},
    {"label": [3], "boxes": [], "text": [b"d"]},
    {"label": [4], "boxes": [1, 2, 3]},
    {"label": [5], "boxes": [0.25], "text": [b"f"]},
]
# The label is text now, or two numbers.
NIGHT_2: list[dict[str, Values]] = [
    {"label": [b"six"], "boxes": [0.5], "text": [b"a"]},
    {"label": [7], "boxes": [b"?"], "text": [9]},
    {"label": [8, 8], "text": [b"ok"]},
]


@pytest.fixture
def job(tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run) -> Run:
    """Writes a night's TFRecord file, if there is one, and runs the command on all."""
    images = [path.read_bytes() for path in write_random_images(tmp_path / "png", 9)]

    def night(number: int, features: list[dict[str, Values]], *flags: object) -> Finished:
        (tmp_path / "in").mkdir(exist_ok=True)
        records = [
            example(image=[image], **one) for image, one in zip(images, features, strict=False)
        ]
        write_records(tmp_path / "in" / f"{number}.tfrecord", records)
        command = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model]
        return run_here(*command, *flags)

    return night


def rows(directory: pathlib.Path) -> pa.Table:
    return load_features(str(directory)).sort_by("id")


def test_no_image_is_lost_and_the_next_night_goes_on(tmp_path: pathlib.Path, job: Run) -> None:
    keep = ("--keep", "label,boxes,text")
    done = job(1, NIGHT_1, *keep)
    assert (done.code, "6 matched: 6 rows and 0 errors" in done.out) == (0, True)
    table = rows(tmp_path / "out")
    assert table["label"].to_pylist() == [None, 1, 2, 3, 4, 5]
    assert table["boxes"].to_pylist() == [[0.5], [0.5, 1.5], None, [], [1, 2, 3], [0.25]]
    assert table["text"][2].as_py() == b"caf\xe9"  # so the column is of bytes
    assert load_warnings(str(tmp_path / "out")).num_rows == 0

    done = job(2, NIGHT_2, *keep)
    assert (done.code, "3 rows and 0 errors now, 6 done before" in done.out) == (0, True)
    assert "warned   3 keep" in done.out
    assert json.loads((tmp_path / "out" / "_run.json").read_text())["warnings"] == {"keep": 3}
    assert rows(tmp_path / "out")["label"].to_pylist()[6:] == [None, 7, None]
    told = load_warnings(str(tmp_path / "out")).to_pylist()
    assert [(one["id"][-2:], one["message"]) for one in told] == [
        ("#0", "feature 'label' holds bytes, not int64"),
        ("#1", "feature 'boxes' holds bytes, not float32"),
        ("#1", "feature 'text' holds int64, not binary"),
        ("#2", "feature 'label' holds 2 values, not 1"),
    ]
    assert verify.main([str(tmp_path / "out"), "--sample", "9"]) == 0


def test_types_can_be_declared_and_are_then_the_same_setting(
    tmp_path: pathlib.Path, job: Run
) -> None:
    words = "label:int64,boxes:list<float>,text:bytes"
    assert job(2, NIGHT_2, "--keep", words).code == 0  # whatever these Examples would say
    assert job(1, NIGHT_1, "--keep", "label,boxes,text").code == 0
    assert len(rows(tmp_path / "out")) == 9
    done = job(1, NIGHT_1, "--keep", "label:float,boxes,text")
    assert done.code == 2
    assert "keep was label:int64,boxes:list of float32,text:binary, is label:float32," in done.err


def test_a_type_that_no_example_shows_can_be_declared(tmp_path: pathlib.Path, job: Run) -> None:
    done = job(1, NIGHT_1, "--keep", "label,rare")
    assert done.code == 2
    assert "--keep rare: no Example has such a feature; those looked at in" in done.err
    assert job(1, NIGHT_1, "--keep", "label,rare:list<string>").code == 0
    assert rows(tmp_path / "out")["rare"].null_count == 6
