"""`pipeline.compact`: fewer parts, the same rows, whatever kills it."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Callable

import pandas as pd
import pytest

from pipeline import compact, verify
from tests.helpers.commands import Finished, run
from tests.helpers.images import write_random_images
from transforms.dataset.snapshot import load_features


@pytest.fixture
def output(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Callable[..., Finished]
) -> pathlib.Path:
    """60 rows and an error row in about ten parts."""
    write_random_images(tmp_path / "in", 60)
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    out = tmp_path / "out"
    flags = ["--model", tiny_model, "--rows_per_file", 6]
    assert run_here("--input", tmp_path / "in", "--output", out, *flags).code == 0
    return out


def rows(table: pd.DataFrame) -> list[dict]:
    table = table.sort_values("id").assign(
        feature_vector=lambda t: [vector.tolist() for vector in t["feature_vector"]]
    )
    return table.to_dict("records")


def test_the_same_rows_lie_in_fewer_parts(output: pathlib.Path, capfd) -> None:
    before = rows(pd.read_parquet(output))
    parts = len(list(output.glob("part-*")))
    errors = pd.read_parquet(output / "_errors").to_dict("records")
    assert compact.main([str(output), "--rows_per_file", "25"]) == 0
    left = len(list(output.glob("part-*")))
    assert f"{parts} parts -> {left} parts" in capfd.readouterr().out
    assert 3 <= left <= 4 < parts
    assert json.loads((output / "_run.json").read_text())["counts"]["parts"] == left
    assert verify.main([str(output), "--sample", "61"]) == 0
    assert rows(pd.read_parquet(output)) == rows(load_features(str(output)).to_pandas()) == before
    for path in (output / "_errors").iterdir():
        assert pd.read_parquet(path).to_dict("records") == errors


@pytest.mark.parametrize("place", ["before_journal", "after_moves", "after_snapshot"])
def test_killed_at_any_place_no_row_is_lost(output: pathlib.Path, place: str) -> None:
    before = rows(pd.read_parquet(output))
    command = [sys.executable, "-m", "pipeline.compact", str(output), "--rows_per_file", "25"]
    env = os.environ | {"BEAM_IMAGE_FEATURES_KILL_AT": place}
    assert run(command, env=env).code == -9
    assert rows(load_features(str(output)).to_pandas()) == before
    assert compact.main(command[3:]) == 0
    assert rows(pd.read_parquet(output)) == rows(load_features(str(output)).to_pandas()) == before


def test_a_directory_without_parts_is_a_mistake(tmp_path: pathlib.Path, capsys) -> None:
    assert compact.main([str(tmp_path)]) == 2
    assert "holds no output of this program" in capsys.readouterr().err
