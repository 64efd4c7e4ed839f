"""Images that decode although libjpeg warns of them: rows, whose ids a program can have."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import pandas as pd
import pyarrow.parquet as pq
import pytest

from consumers import load_warnings
from pipeline import compact, verify
from tests.helpers.commands import ROOT, Finished
from tests.helpers.images import write_random_images
from transforms.dataset.warned import WARNING_SCHEMA, WARNINGS_KEY

Run = Callable[..., Finished]


def cut_short(path: pathlib.Path) -> None:
    """Leaves out a byte of the coded data: TensorFlow decodes it, and libjpeg warns."""
    data = path.read_bytes()
    at = data.index(b"\xff\xda") + 300
    while 0xFF in data[at - 1 : at + 2]:
        at += 1
    path.write_bytes(data[:at] + data[at + 1 :])


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> list[pathlib.Path]:
    paths = write_random_images(tmp_path / "photos", 9, size=40, suffix=".jpg")
    for path in (paths[2], paths[7]):
        cut_short(path)
    return paths


def test_warned_images_are_rows_whose_ids_can_be_had(
    photos: list[pathlib.Path], tiny_model: pathlib.Path, run_here: Run, tmp_path, capfd
) -> None:
    out = tmp_path / "out"
    command = ["--input", tmp_path / "photos", "--output", out, "--model", tiny_model]
    done = run_here(*command, "--rows_per_file", 4)
    assert done.code == 0
    assert "Corrupt JPEG" not in done.err
    assert "warned   2 jpeg: rows whose ids load_warnings tells" in done.out
    assert json.loads((out / "_run.json").read_text())["warnings"] == {"jpeg": 2}
    table = load_warnings(str(out))
    assert table.schema == WARNING_SCHEMA
    assert sorted(set(table["id"].to_pylist())) == [str(photos[2]), str(photos[7])]
    assert all("Corrupt JPEG data" in message for message in table["message"].to_pylist())
    rows = pd.read_parquet(out)
    assert list(rows) == ["id", "uri", "width", "height", "version", "feature_vector"]
    assert len(rows) == 9
    assert verify.main([str(out), "--sample", "9"]) == 0

    assert compact.main([str(out)]) == 0
    assert sorted(load_warnings(str(out)).to_pylist(), key=str) == sorted(
        table.to_pylist(), key=str
    )
    write_random_images(tmp_path / "photos", 1, size=41, suffix=".jpg")  # replaces the first
    photos[2].unlink()
    done = run_here(*command, "--mode", "sync")
    assert (done.code, "warned   1 jpeg" in done.out) == (0, True)
    assert set(load_warnings(str(out))["id"].to_pylist()) == {str(photos[7])}
    footers = [pq.read_metadata(part).metadata for part in out.glob("part-*")]
    told = [footer for footer in footers if WARNINGS_KEY in footer]
    assert [json.loads(f[b"image_features"])["warnings"] for f in told] == [{"jpeg": 1}]


def test_the_output_of_an_earlier_version_has_no_warnings() -> None:
    assert load_warnings(str(ROOT / "tests" / "data" / "output_0_1_0")).num_rows == 0
