"""The peak of memory does not grow with the number of images."""

from __future__ import annotations

import os
import pathlib

import pyarrow.dataset as ds
import pytest

from tests.helpers.commands import run_python
from tests.helpers.images import write_random_images
from tests.helpers.soak import usual_or_soak

FEW, MANY = 2_000, usual_or_soak(10_000, 100_000)

# In a process between: of a process that a large one starts, the kernel says the large one's peak.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call([sys.executable, "-m", "pipeline.run", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[int, pathlib.Path]:
    """Directories of so many images: names of a hundred files, 1,000 in each subdirectory."""
    root = tmp_path_factory.mktemp("tiny")
    pixels = write_random_images(root / "pixels", 100, size=16)
    for count in (FEW, MANY):
        for number in range(count):
            parent = root / f"{count}" / f"{number // 1000:03d}"
            parent.mkdir(parents=True, exist_ok=True)
            os.link(pixels[number % len(pixels)], parent / f"{number:06d}.png")
    return {count: root / f"{count}" for count in (FEW, MANY)}


def peak(*arguments: object) -> float:
    """Runs the command and returns the peak of its resident memory, in MiB."""
    done = run_python(MEASURE, *arguments)
    assert done.code == 0, done.err
    return int(done.out.split()[-1]) / 1024


def test_many_images_take_the_memory_of_two_thousand(
    directories: dict[int, pathlib.Path], tiny_model: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    computing, unchanged = {}, {}
    for count, directory in directories.items():
        output = tmp_path / f"out-{count}"
        command = ("--input", directory, "--output", output, "--model", tiny_model)
        computing[count] = peak(*command)
        assert ds.dataset(output).count_rows() == count
        unchanged[count] = peak(*command)
    for what, peaks in (("computing", computing), ("nothing to do", unchanged)):
        ratio = peaks[MANY] / peaks[FEW]
        print(
            f"{what}: {peaks[FEW]:.0f} MiB for {FEW:,}, {peaks[MANY]:.0f} for {MANY:,}: {ratio:.3f}"
        )
    assert computing[MANY] < 1.1 * computing[FEW]
    assert unchanged[MANY] < 1.1 * unchanged[FEW]
