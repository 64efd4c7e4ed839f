"""How a process of the program begins: what stands in its way is one line that names it."""

from __future__ import annotations

import importlib
import os
import pathlib
import sys

import pytest

from pipeline.command import VERBS
from pipeline.terminal.imports import import_failure
from tests.helpers.commands import ROOT, Finished, run

VERB = [sys.executable, "-m"]


@pytest.fixture
def beside(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A directory that comes first where modules are looked for, as the current one does."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def one_line(done: Finished) -> str:
    (line,) = done.err.splitlines()
    assert (done.code, done.out) == (2, "")
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_with_the_name_of_a_package_of_ours_is_named(verb: str, tmp_path: pathlib.Path):
    (tmp_path / "transforms.py").write_text("from torchvision import nothing")
    line = one_line(run([*VERB, f"pipeline.{verb}", "--help"], cwd=tmp_path))
    assert line.startswith(f"error: {tmp_path}/transforms.py: is imported instead of ")
    assert "rename it" in line


@pytest.mark.parametrize("name", ["transforms", "runners.py"])
def test_so_it_is_for_the_installed_command(name: str, tmp_path: pathlib.Path):
    if name.endswith(".py"):
        (tmp_path / name).write_text("")
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    command = [
        sys.executable,
        "-c",
        "from pipeline.command import end_with_verb; end_with_verb()",
        "run",
    ]
    line = one_line(run(command, cwd=tmp_path))
    assert line.startswith(f"error: {tmp_path}/{name}: is imported instead of ")


def test_a_file_with_the_name_of_a_library_is_named(tmp_path: pathlib.Path):
    (tmp_path / "numpy.py").write_text("x = 1")
    line = one_line(run([*VERB, "pipeline.run", "--input", "a", "--output", "b"], cwd=tmp_path))
    assert line.startswith(f"error: {tmp_path}/numpy.py: is imported instead of ")


def failure(name: str) -> Exception:
    with pytest.raises(Exception) as info:
        importlib.import_module(name)
    return info.value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise ImportError('libx.so: no such file')", "ImportError: libx.so: no such file"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("import sys\nsys.nothing", "AttributeError: module 'sys' has no attribute 'nothing'"),
        ("1 +", "SyntaxError: invalid syntax"),
    ],
)
def test_a_library_that_fails_to_import_is_named_with_its_message(
    text: str, told: str, beside: pathlib.Path
):
    (beside / "broken_one").mkdir()
    (beside / "broken_one" / "__init__.py").write_text("from broken_one import core")
    (beside / "broken_one" / "core.py").write_text(text)
    line = import_failure(failure("broken_one"))
    assert line is not None
    assert line.startswith(f"{beside}/broken_one/core.py: broken_one cannot be imported: {told}")


@pytest.mark.parametrize("text", ["raise RuntimeError('x')", "1 +", "from wave import nothing"])
def test_a_file_with_the_name_of_a_standard_module_is_named(text: str, beside: pathlib.Path):
    sys.modules.pop("wave", None)
    (beside / "wave.py").write_text(text)
    (beside / "user_of_it.py").write_text("import wave")
    line = import_failure(failure("user_of_it"))
    assert line is not None
    assert line.startswith(f"{beside}/wave.py: is imported instead of the library wave; rename it")


def test_what_was_imported_without_a_failure_and_lacks_what_is_asked_for_is_named(
    beside: pathlib.Path,
):
    sys.modules.pop("wave", None)
    (beside / "wave.py").write_text("x = 1")
    (beside / "user_of_it.py").write_text("import wave\nwave.open('a')")
    line = import_failure(failure("user_of_it"))
    assert line is not None
    assert line.startswith(f"{beside}/wave.py: is imported instead of the library wave; rename it")


def test_a_library_that_is_missing_is_named():
    missing = ModuleNotFoundError("No module named 'nowhere_at_all'", name="nowhere_at_all")
    line = import_failure(missing)
    assert line is not None
    assert line.startswith("nowhere_at_all cannot be imported: ModuleNotFoundError: No module")


def test_other_failures_are_no_failures_to_import():
    try:
        os.stat("/nowhere")
    except OSError as error:
        assert import_failure(error) is None


def test_each_verb_begins_at_the_same_door():
    """Before anything that may fail is imported."""
    for verb in VERBS:
        text = (ROOT / "pipeline" / f"{verb}.py").read_text("utf-8")
        before, _, behind = text.partition('if __name__ == "__main__":')
        imported = [line for line in before.splitlines() if line.startswith(("import", "from"))]
        assert imported == ["from __future__ import annotations", "from pipeline import start"]
        assert "import" in behind
