"""What README.md and docs/ tell people to type works, prints what they say, and leads somewhere."""

from __future__ import annotations

import doctest
import itertools
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import pytest

from tests.docs.pages import PAGES, README, RUNS, Block, anchors, blocks, links
from tests.helpers.commands import ROOT


def cpu_seconds() -> float:
    """Of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_page_says_to_type_works(page, folder, tmp_path, record_property):
    found = blocks(page)
    to_run = [block for block in found if block.language in RUNS and block.not_run is None]
    excused = [block for block in found if block.not_run is not None]
    started = cpu_seconds()
    printed = run(to_run, folder, tmp_path)
    check_printed(found, printed)
    told = [
        f"{page.relative_to(ROOT)}: {len(to_run)} blocks run in "
        f"{cpu_seconds() - started:.0f} s of CPU time, {len(excused)} not run",
        *(f"  {block.place}: {block.not_run}" for block in excused),
    ]
    record_property("told", "\n".join(told))
    for block in excused:
        assert len(block.not_run.split()) > 1, f"{block.place}: give a reason"
        assert block.language in RUNS, f"{block.place}: is not run anyway"


def run(to_run: list[Block], folder: pathlib.Path, tmp_path: pathlib.Path) -> dict[str, str]:
    """Runs blocks in a folder with photos; what each prints, by its place."""
    if not to_run:
        return {}
    here = shutil.copytree(folder, tmp_path / "here")
    listed = tmp_path / "blocks.json"
    listed.write_text(json.dumps([[b.place, b.language, b.text] for b in to_run]))
    surroundings = {
        "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # half the time to start
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.run_blocks", listed],
        cwd=here,
        env=os.environ | surroundings,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = pathlib.Path(f"{listed}.out").read_text().splitlines()
    return {block.place: json.loads(line) for block, line in zip(to_run, lines, strict=True)}


def check_printed(found: list[Block], printed: dict[str, str]) -> None:
    """A block that the page says was printed was printed by the block before it."""
    same = doctest.OutputChecker().check_output
    for before, block in itertools.pairwise(found):
        if block.is_printed and before.place in printed:
            wanted = block.text.replace("…", "...")
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert same(wanted, printed[before.place], flags), (
                f"{block.place}: the page says\n{block.text}\nbut it printed\n"
                f"{printed[before.place]}"
            )


def test_the_readme_can_be_read_in_three_minutes():
    assert len(README.read_text().splitlines()) <= 150


def test_every_page_is_linked_from_the_readme():
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(README)}
    there = {path for path in (ROOT / "docs").iterdir() if path.suffix in (".md", ".ipynb")}
    assert there - linked == set()


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md"))],
    ids=lambda page: page.name,
)
def test_links_lead_somewhere(page):
    for target in links(page):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        to = (page.parent / name).resolve() if name else page
        assert to.exists(), f"{page.name}: {target}"
        if anchor and to.suffix == ".md":
            assert anchor in anchors(to), f"{page.name}: {target}"
