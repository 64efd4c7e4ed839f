"""The wheel and the source package hold every package, and the wheel runs where it is unpacked."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile

import pytest

from pipeline import __version__
from pipeline.command import VERBS
from tests.helpers.tree import PACKAGES, copy_tree, files


@dataclasses.dataclass(frozen=True)
class Built:
    """What `python -m build` made of a tree."""

    tree: pathlib.Path
    wheel: pathlib.Path
    sdist: pathlib.Path

    def in_wheel(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())


def python(*words: object, cwd: pathlib.Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_sdist(path: pathlib.Path) -> set[str]:
    with tarfile.open(path) as archive:
        names = [member.name for member in archive.getmembers() if member.isfile()]
    return {name.partition("/")[2] for name in names}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source package of a copy of the tree, and the wheel that is built of the package."""
    tree = copy_tree(tmp_path_factory.mktemp("source") / "tree")
    before = files(tree, ".")
    to = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", to, ".", cwd=tree)
    assert {name for name in files(tree, ".") - before if ".egg-info/" not in name} == set()
    (wheel,), (sdist,) = to.glob("*.whl"), to.glob("*.tar.gz")
    return Built(tree, wheel, sdist)


@pytest.fixture(scope="module")
def unpacked(built: Built, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    flags = ["--quiet", "--offline", "--no-deps", "--python", sys.executable]
    python("-m", "uv", "pip", "install", *flags, "--target", folder, built.wheel, cwd=folder)
    return folder


def test_each_folder_with_modules_is_a_package(built):
    modules = [name for name in files(built.tree, *PACKAGES) if name.endswith(".py")]
    folders = {pathlib.PurePosixPath(name).parent for name in modules}
    assert {str(folder) for folder in folders if f"{folder}/__init__.py" not in modules} == set()


def test_the_wheel_holds_the_packages_and_nothing_else(built):
    metadata = f"beam_image_features-{__version__}.dist-info/"
    held = {name for name in built.in_wheel() if not name.startswith(metadata)}
    assert held == files(built.tree, *PACKAGES)


def test_each_package_says_that_it_is_typed(built):
    assert {f"{package}/py.typed" for package in PACKAGES} <= built.in_wheel()


def test_the_source_package_holds_the_whole_tree(built):
    before = {name for name in files(built.tree, ".") if ".egg-info/" not in name}
    assert before - in_sdist(built.sdist) == set()


def test_the_source_package_that_beam_makes_for_workers_holds_it_too(built, tmp_path):
    python("setup.py", "--quiet", "sdist", "--dist-dir", tmp_path, cwd=built.tree)
    (path,) = tmp_path.glob("*.tar.gz")
    assert in_sdist(path) == in_sdist(built.sdist)


def test_the_installed_command_runs_from_anywhere(unpacked, tmp_path):
    def call(*words: str) -> str:
        return python(*words, cwd=tmp_path, PYTHONPATH=str(unpacked))

    command = str(unpacked / "bin" / "beam-image-features")
    where = call("-c", "import pipeline; print(pipeline.__file__)")
    assert pathlib.Path(where.strip()) == unpacked / "pipeline" / "__init__.py"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        helps = pool.map(lambda verb: call(command, verb, "--help"), VERBS)
        versions = pool.map(lambda verb: call(command, verb, "--version"), VERBS)
    for verb, text in zip(VERBS, helps, strict=True):
        assert text.startswith(f"usage: beam-image-features {verb} ")
    assert {call(command, "--version"), *versions} == {f"beam-image-features {__version__}\n"}
