"""The source tree without what tools leave in it, to build it or to change it elsewhere."""

from __future__ import annotations

import pathlib
import shutil

from tests.helpers.commands import ROOT

PACKAGES = ("consumers", "pipeline", "runners", "transforms")
"""The packages that are installed."""

_LEFT_BEHIND = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "demo", "node_modules"
)


def copy_tree(to: pathlib.Path) -> pathlib.Path:
    """A copy of the source tree; returns where it is."""
    return shutil.copytree(ROOT, to, ignore=_LEFT_BEHIND)


def files(root: pathlib.Path, *folders: str) -> set[str]:
    """Paths of all files in some folders of a tree, relative to it, but for bytecode."""
    found = (path for folder in folders for path in (root / folder).rglob("*"))
    return {
        path.relative_to(root).as_posix()
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    }
