"""The tutorial runs, as a script and as a notebook, and what it trains knows digits."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import sys

import nbclient
import nbformat
import pytest

from tests.helpers.commands import ROOT, run

NOTEBOOK = ROOT / "examples" / "retrain.ipynb"
LARGEST_OUTPUT = 10_000


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after it ran in a copy of its folder."""
    here = shutil.copytree(NOTEBOOK.parent, tmp_path_factory.mktemp("notebook") / "examples")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(here)}}
    with pytest.MonkeyPatch.context() as patch:
        path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        patch.setenv("PATH", path)
        return nbclient.NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources=resources
        ).execute()


def outputs(notebook) -> list[nbformat.NotebookNode]:
    """What the cells show, without what TensorFlow says of itself when it is imported."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in found if output.get("name") != "stderr"]


def kinds(notebook) -> list[list[str]]:
    return [sorted(output.get("data", {"text": ""})) for output in outputs(notebook)]


def test_the_script_trains_exports_and_knows_digits_that_it_has_not_seen(tmp_path):
    words = ["examples.retrain", tmp_path, "--most", "150", "--image_size", "64x64"]
    done = run([sys.executable, "-m", *words])
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    commands = [line.split()[3] for line in lines if line.startswith("$ ")]
    assert commands == ["pipeline.train", "pipeline.run"]
    right, seen = map(int, re.fullmatch(r"right: (\d+) of (\d+)", lines[-1]).groups())
    assert seen == len(list((tmp_path / "aside").glob("*/*.png"))) == 14
    assert right > seen / 2
    assert (tmp_path / "digits.tflite").stat().st_size > 1_000_000
    assert (tmp_path / "model" / "labels.txt").read_text().split() == list("0123456789")


def test_the_notebook_runs_and_shows_what_is_stored(executed):
    assert kinds(executed) == kinds(nbformat.read(NOTEBOOK, as_version=4))
    text = "".join(output.get("text", "") for output in outputs(executed))
    agreed, of_all = map(int, re.search(r"TFLite agrees on (\d+) of (\d+)", text).groups())
    assert agreed == of_all > 10
    right, seen = map(int, re.search(r"right: (\d+) of (\d+)", text).groups())
    assert right > seen / 2


def test_the_notebook_is_small_and_names_no_machine():
    text = NOTEBOOK.read_text()
    assert "/tmp/" not in text and str(ROOT) not in text
    stored = outputs(nbformat.read(NOTEBOOK, as_version=4))
    assert max(len(str(output)) for output in stored) < LARGEST_OUTPUT
