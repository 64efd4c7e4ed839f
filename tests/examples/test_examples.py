"""The examples do what they say, and say nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import PIL.Image
import pytest

from tests.helpers.commands import ROOT

QUIET = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}


@pytest.fixture
def example():
    """Runs an example as a person would; gives its lines."""

    def run(name, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", f"examples.{name}", *map(str, arguments)],
            cwd=ROOT,
            env=QUIET,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return run


@pytest.fixture
def coffee(photos, tmp_path):
    """A directory with one small JPEG."""
    [path] = [path for path in photos if path.stem == "coffee"]
    (tmp_path / "photos").mkdir()
    with PIL.Image.open(path) as image:
        image.convert("RGB").save(tmp_path / "photos" / "coffee.jpg")
    return tmp_path / "photos" / "coffee.jpg"


def test_the_transforms_in_a_pipeline_of_ones_own(example, coffee, tmp_path):
    [line] = example("own_pipeline", coffee.parent, tmp_path / "out")
    assert line.endswith(": 1 rows")
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 1


def test_any_image_model_in_beams_run_inference(example, coffee):
    assert example("own_run_inference", coffee) == [f"{coffee}: espresso"]
