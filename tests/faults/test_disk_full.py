"""A disk that fills up: one clear line, nothing half-written, and the same command goes on."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from tests.helpers.commands import Finished, run_command
from tests.helpers.disks import free_disk, leave_free, small_disk
from tests.helpers.images import write_random_images
from tests.helpers.tiny_model import save_tiny_model
from transforms.dataset.snapshot import load_features

IMAGES = 1000
WIDTH = 1280  # as the built-in model's

MIB = 2**20
PAGE = 4096  # what a tmpfs gives at a time

TWO_WORKERS = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]

Run = Callable[..., Finished]


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    with small_disk(tmp_path / "disk", 16 * MIB) as mounted:
        yield mounted


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """A command, but for its output, that writes 5 MB in parts of 250 kB."""
    directory = tmp_path_factory.mktemp("full")
    write_random_images(directory / "in", IMAGES, suffix=".jpg")
    model = save_tiny_model(directory / "wide", width=WIDTH)
    return [
        "--input",
        directory / "in",
        "--model",
        model,
        "--rows_per_file",
        50,
        "--engine",
        "openvino",
    ]


@pytest.fixture(scope="module")
def undisturbed(
    command: list[object], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, bytes]]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    done = run_command(*command, "--output", output)
    assert done.code == 0, done.err
    return rows(pd.read_parquet(output))


def rows(table: pd.DataFrame) -> dict[str, tuple[str, bytes]]:
    """Version and vector by id; the ids must be unique."""
    assert table["id"].is_unique
    return {
        row.id: (row.version, np.asarray(row.feature_vector, np.float32).tobytes())
        for row in table.itertuples()
    }


def check_says_that_the_disk_is_full(failed: Finished) -> None:
    assert failed.code == 1, failed.err
    lines = [
        line for line in failed.err.splitlines() if not re.match(r"[\d,]+ of [\d,]+ images", line)
    ]
    assert lines[-1].startswith("failed: no space left where --output (or the temporary directory)")
    assert lines[-1].endswith("what is committed stays; the same command continues")
    told = failed.err + failed.out
    assert "Traceback" not in told and "Error" not in told and "Errno" not in told, told
    assert len(lines) <= 5, "what was asked for, what there is to do, and what went wrong"


@pytest.mark.parametrize("flags", [[], TWO_WORKERS], ids=["one_process", "two_workers"])
def test_a_disk_that_fills_up_while_it_computes(
    disk: pathlib.Path,
    command: list[object],
    undisturbed: dict[str, tuple[str, bytes]],
    flags: list[str],
) -> None:
    output = disk / "out"
    command = [*command, "--output", output, *flags]
    leave_free(disk, 2 * MIB)
    check_says_that_the_disk_is_full(run_command(*command))
    seen = rows(pd.read_parquet(output))
    assert 0 < len(seen) < IMAGES
    assert all(undisturbed[image_id] == row for image_id, row in seen.items())
    assert not {"_SUCCESS", "_run.json", "_lease.json"} & set(os.listdir(output))
    free_disk(disk)
    done = run_command(*command)
    assert done.code == 0, done.err
    assert f"{len(seen):,} done before" in done.out
    assert rows(pd.read_parquet(output)) == undisturbed
    assert not list(output.rglob("_tmp-*"))
    print(f"{flags}: full after {len(seen)} of {IMAGES} images; finished when there was space")


@pytest.fixture
def sync(disk: pathlib.Path, tiny_model: pathlib.Path, tmp_path: pathlib.Path, run_here: Run):
    """The command of a finished sync of 80 images; then 6 change, 1 goes and 1 is none any more."""
    paths = write_random_images(tmp_path / "in", 80)
    paths[0].write_bytes(b"not an image")
    command = ["--input", tmp_path / "in", "--output", disk / "out", "--model", tiny_model]
    command += ["--rows_per_file", 1, "--mode", "sync"]  # the snapshot needs more than a page
    command += ["--max_error_rate", 1]  # all that a full disk has left to do may be the errors
    assert run_here(*command).code == 0
    for path, other in zip(paths[1:7], paths[7:13], strict=True):
        path.write_bytes(other.read_bytes())
        os.utime(path, (1, 1))
    paths[20].unlink()
    paths[21].write_bytes(b"no image any more")
    return command


def finished(output: pathlib.Path) -> dict[str, tuple[str, bytes]]:
    """The rows after the sync, for any reader."""
    seen = state(output)
    assert len(seen) == 77
    assert rows(pd.read_parquet(output)) == seen
    assert not list(output.rglob("_tmp-*"))
    return seen


def state(output: pathlib.Path) -> dict[str, tuple[str, bytes]]:
    return rows(load_features(str(output)).to_pandas())


def test_a_disk_that_is_full_at_any_step_of_a_sync(
    disk: pathlib.Path, sync: list[object], tmp_path: pathlib.Path, run_here: Run
) -> None:
    """From the lease to the last file: each time with one page more, until it is enough."""
    output = disk / "out"
    before = state(output)
    shutil.copytree(output, tmp_path / "before")
    for pages in range(100):
        leave_free(disk, pages * PAGE)
        done = run_here(*sync)
        free_disk(disk)
        if done.code == 0:
            break
        check_says_that_the_disk_is_full(done)
        left = state(output)
        assert run_here(*sync).code == 0
        assert left in (before, finished(output))
        shutil.rmtree(output)
        shutil.copytree(tmp_path / "before", output)
    finished(output)
    print(f"full with 0 to {pages - 1} free pages")
    assert pages > 5


def test_a_disk_that_is_full_after_the_commit_of_a_sync(
    disk: pathlib.Path, sync: list[object], run_here: Run
) -> None:
    """The journal is written: whoever comes next brings the change to its end, or says why not."""
    output = disk / "out"
    before = state(output)
    killed = run_command(*sync, env=os.environ | {"BEAM_IMAGE_FEATURES_KILL_AT": "after_journal"})
    assert killed.code == -9
    for pages in range(100):
        leave_free(disk, pages * PAGE)
        done = run_here(*sync)
        if done.code == 0:
            break
        check_says_that_the_disk_is_full(done)
        assert state(output) == before or finished(output)
    finished(output)
    print(f"full with 0 to {pages - 1} free pages after the commit")
    assert pages > 1
