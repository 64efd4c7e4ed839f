"""The notebook runs from its first cell to its last, and shows what it has stored."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys

import nbclient
import nbformat
import pytest

from tests.helpers.commands import ROOT

NOTEBOOK = ROOT / "docs" / "neighbours.ipynb"


@pytest.fixture
def executed(folder, tmp_path, monkeypatch):
    """The notebook after it ran in a folder with photos."""
    here = shutil.copytree(folder, tmp_path / "here")
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(here)}}
    return nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources=resources
    ).execute()


def outputs(notebook) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def kinds(notebook) -> list[list[str]]:
    return [sorted(output.get("data", {"text": ""})) for output in outputs(notebook)]


def test_it_runs_and_shows_what_is_stored(executed):
    assert kinds(executed) == kinds(nbformat.read(NOTEBOOK, as_version=4))
    tables = [output.get("data", {}).get("text/plain", "") for output in outputs(executed)]
    assert any("motorcycle_left.jpg  motorcycle_right.jpg" in table for table in tables)


def test_it_is_small_and_names_no_machine():
    text = NOTEBOOK.read_text()
    assert len(text) < 300_000
    assert "/tmp/" not in text and str(ROOT) not in text
