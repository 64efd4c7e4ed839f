"""The house stays as it is: imports run one way, no room is too large, a name means one thing."""

from __future__ import annotations

import ast
import collections
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.helpers.commands import ROOT
from tests.helpers.tree import PACKAGES

MOST_LINES = 300
MOST_MODULES = 15
ROOMS = (*PACKAGES, "benchmarks", "examples")

# Names that several modules define, and why that is no confusion.
SHARED_NAMES = {
    "main": "the entry of a verb or a process",
    "load": "the fixed interface of an engine",
    "list_refs": "the fixed interface of a kind of input",
    "open_reader": "the fixed interface of a kind of input",
    "create": "the fixed interface of a runner",
    "bundles_at_once": "the fixed interface of a runner",
    "load_features": "a table of the format's own reader, and what consumers take made of it",
}


@pytest.fixture
def house(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the packages, to be spoilt."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def check_imports(house: pathlib.Path) -> tuple[int, str]:
    """What `make check` does; the exit code, and what it says on one line."""
    done = subprocess.run(
        [pathlib.Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=house,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_no_import_runs_back_up(house):
    code, said = check_imports(house)
    assert code == 0, said


@pytest.mark.parametrize(
    ("module", "line", "told"),
    [
        ("transforms/refs.py", "from pipeline import job", "transforms.refs -> pipeline.job"),
        ("runners/direct.py", "import consumers", "runners.direct -> consumers"),
        (
            "transforms/storage/retries.py",
            "from transforms.inputs import listing",
            "transforms.storage.retries -> transforms.inputs.listing",
        ),
        (
            "transforms/dataset/part.py",
            "from transforms.engines import parity",
            "transforms.dataset.part -> transforms.engines.parity",
        ),
        (
            "pipeline/options/types.py",
            "from pipeline.output import lease",
            "pipeline.options.types -> pipeline.output.lease",
        ),
        ("pipeline/job.py", "from pipeline import run", "pipeline.job -> pipeline.run"),
        ("transforms/images/spec.py", "from transforms.images import decode", ".spec -> .decode"),
        ("transforms/refs.py", "import argparse", "transforms.refs -> argparse"),
        ("consumers/__init__.py", "import apache_beam", "consumers -> apache_beam"),
    ],
)
def test_an_import_that_runs_back_up_is_named(house, module, line, told):
    path = house / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    code, said = check_imports(house)
    assert code == 1
    assert told in said


def test_a_new_room_needs_a_place(house):
    (house / "transforms" / "attic.py").write_text('"""What nobody needs."""\n')
    code, said = check_imports(house)
    assert code == 1
    assert "transforms.attic" in said


def modules(*folders: str) -> list[pathlib.Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_no_module_is_too_long_to_read_in_one_go():
    lengths = {str(path): len(path.read_text("utf-8").splitlines()) for path in modules(*ROOMS)}
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_folder_has_too_many_modules_to_choose_from():
    rooms = [path.parent for path in modules(*ROOMS) if path.name != "__init__.py"]
    counts = collections.Counter(map(str, rooms))
    assert {room: count for room, count in counts.items() if count > MOST_MODULES} == {}


def test_a_public_name_means_one_thing():
    places = collections.defaultdict(list)
    for path in modules(*PACKAGES):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                places[node.name].append(path.relative_to(ROOT).as_posix())
    shared = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in shared.items() if name not in SHARED_NAMES} == {}
    assert SHARED_NAMES.keys() - shared.keys() == set(), "no longer shared: remove it here"
