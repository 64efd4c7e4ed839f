"""Whatever is killed, and when: each image once, the same vectors, little computed again."""

from __future__ import annotations

import pathlib
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from runners import direct
from tests.helpers.commands import PATIENCE_SECONDS
from tests.helpers.jobs import TRIED, Job, kill_group, waits, workers, write_crops
from tests.helpers.opened_files import OpenedFiles
from tests.helpers.soak import usual_or_soak
from transforms.machine.cores import available_cores

IMAGES = usual_or_soak(3000, 12_000)
KILLS = usual_or_soak(3, 25)
FEWER_KILLS = usual_or_soak(1, 5)
ROWS_PER_FILE = 50

TWO_WORKERS = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]

# Shards that one process works on at once.
AT_ONCE = direct.default_threads(available_cores())


@pytest.fixture(scope="module")
def images(photos, tmp_path_factory) -> list[str]:
    return write_crops(photos, tmp_path_factory.mktemp("crops") / "images", IMAGES)


@pytest.fixture(scope="module")
def new_job(images, tiny_model, tmp_path_factory) -> Iterator[Callable[..., Job]]:
    """A job over all images into a new output, whose images are counted as they are read."""
    directory = pathlib.Path(images[0]).parent

    with OpenedFiles(directory) as opened:

        def create(*flags: str) -> Job:
            arguments = ["--input", str(directory), "--model", str(tiny_model)]
            arguments += ["--engine", "openvino", "--rows_per_file", str(ROWS_PER_FILE), *flags]
            output = tmp_path_factory.mktemp("job") / "out"
            before = opened.count()
            arguments += ["--output", str(output)]
            return Job(arguments, output, lambda: opened.count() - before)

        yield create


@pytest.fixture(scope="module")
def undisturbed(new_job, images) -> pd.DataFrame:
    job = new_job()
    job.finish()
    table = job.rows()
    assert list(table.index) == sorted(images)
    assert job.computed() == IMAGES + TRIED
    assert len(np.unique(np.stack(table["feature_vector"]), axis=0)) > 0.9 * IMAGES
    return table


def check(job: Job, undisturbed: pd.DataFrame, kills: int, in_flight: int, what: str) -> None:
    """The finished job's rows are those of an undisturbed run, and little was computed again."""
    table = job.rows()
    assert table.index.equals(undisturbed.index)
    for column in ("uri", "version", "width", "height"):
        assert table[column].equals(undisturbed[column])
    ours, theirs = (np.stack(t["feature_vector"]) for t in (table, undisturbed))
    np.testing.assert_array_equal(ours, theirs)
    job.check_nothing_temporary()
    again = job.computed() - IMAGES - TRIED  # by the last run, at least
    largest = max(len(pd.read_parquet(job.output / name, columns=["id"])) for name in job.parts())
    print(
        f"{what}: {kills} kills, {again} images computed again "
        f"(at most {kills * in_flight * largest} may be), {len(table)} rows of {IMAGES} images in "
        f"{len(job.parts())} parts"
    )
    assert 0 <= again <= kills * in_flight * largest


def test_kills_of_the_whole_process_group(new_job, undisturbed):
    random = np.random.default_rng(25)
    job = new_job()
    for kill in range(KILLS):
        process = job.start()
        if kill % usual_or_soak(3, 5) == 2:  # while it starts, lists, loads or plans
            waits(process, random.uniform(0, 4))
        else:  # while it works; so that all kills leave enough to do
            assert job.wait_for_parts(process, int(random.integers(1, 3)))
            waits(process, random.uniform(0, 0.05))
        assert process.poll() is None, "it was to be killed before it is done"
        kill_group(process)
    job.finish()
    check(job, undisturbed, kills=KILLS, in_flight=AT_ONCE, what="SIGKILL of the process group")


def test_one_of_two_worker_processes_killed(new_job, undisturbed):
    random = np.random.default_rng(2)
    job = new_job(*TWO_WORKERS)
    for _ in range(FEWER_KILLS):
        process = job.start()
        assert job.wait_for_parts(process, int(random.integers(1, 8)))
        waits(process, random.uniform(0, 0.2))
        victims = workers(process)
        assert len(victims) == 2
        victims[random.integers(2)].kill()
        printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 1
        assert "was it killed for want of memory?" in printed
        assert "the same command continues" in printed
    job.finish()
    check(job, undisturbed, kills=FEWER_KILLS, in_flight=2, what="SIGKILL of one of two workers")


@pytest.mark.parametrize("flags", [[], TWO_WORKERS], ids=["one_process", "two_workers"])
def test_sigterm(new_job, undisturbed, flags):
    random = np.random.default_rng(15)
    job = new_job(*flags)
    for _ in range(FEWER_KILLS):
        process = job.start()
        assert job.wait_for_parts(process, int(random.integers(1, 8)))
        waits(process, random.uniform(0, 0.2))
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 143
        assert printed.splitlines()[-1].startswith("interrupted: what is committed stays")
        assert "Traceback" not in printed
        assert not (job.output / "_lease.json").exists()
    job.finish()
    check(
        job,
        undisturbed,
        kills=FEWER_KILLS,
        in_flight=2 if flags else AT_ONCE,
        what=f"SIGTERM {flags}",
    )


def test_killed_between_writing_a_part_and_renaming_it(new_job, undisturbed):
    job = new_job()
    for times in (8, 5, 11, 6, 20)[:FEWER_KILLS]:
        process = job.start(BEAM_IMAGE_FEATURES_KILL_AT=f"before_rename:{times}")
        process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == -signal.SIGKILL
        assert list(job.output.glob("_tmp-*-part-*")), "a part was written and not yet renamed"
    job.finish()
    check(
        job,
        undisturbed,
        kills=FEWER_KILLS,
        in_flight=AT_ONCE,
        what="SIGKILL before a part is renamed",
    )
