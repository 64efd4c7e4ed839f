"""One run at a time works on an output: a second one is refused, a dead one is taken over."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import psutil
import pytest

from tests.helpers.commands import PATIENCE_SECONDS
from tests.helpers.images import write_random_images
from tests.helpers.jobs import Job, workers
from tests.helpers.soak import usual_or_soak
from transforms.storage import TEMPORARY_PREFIX

IMAGES = usual_or_soak(2000, 8000)
ROUNDS = usual_or_soak(1, 4)

TWO_WORKERS = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [
        str(p)
        for p in write_random_images(tmp_path_factory.mktemp("images"), IMAGES, suffix=".jpg")
    ]


@pytest.fixture
def new_job(
    images: list[str], tiny_model: pathlib.Path, tmp_path: pathlib.Path
) -> Callable[..., Job]:
    """A job over all images, in parts of about 50, into a new output of this name."""

    def create(name: str, *flags: str) -> Job:
        output = tmp_path / name
        arguments = ["--input", str(pathlib.Path(images[0]).parents[1]), "--output", str(output)]
        arguments += ["--model", str(tiny_model), "--rows_per_file", "50", "--engine", "openvino"]
        arguments += flags
        return Job(arguments, output)

    return create


@pytest.fixture
def survivors() -> Iterator[list[psutil.Process]]:
    """Processes that outlive those that started them, but not the test."""
    processes: list[psutil.Process] = []
    yield processes
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def holder(process: subprocess.Popen[str]) -> str:
    """How a message names the run of this process."""
    return f"on {os.uname().nodename} (process {process.pid}, since 20"


def check_each_image_once(job: Job, images: list[str]) -> pd.DataFrame:
    rows = job.rows()
    assert list(rows.index) == sorted(images)
    job.check_nothing_temporary()
    return rows


def committed(job: Job) -> dict[pathlib.Path, tuple[int, int, int]]:
    """What readers and runs go by, and whether it is the same file with the same bytes."""
    files = [path for path in job.output.rglob("*") if path.is_file()]
    return {
        path: (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
        for path in files
        if not path.name.startswith(TEMPORARY_PREFIX)
    }


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_of_two_runs_that_start_at_once_one_works_and_the_other_is_refused(
    new_job: Callable[..., Job], images: list[str], attempt: int
) -> None:
    job = new_job("out")
    both = [job.start(), job.start()]
    assert job.wait_for_parts(both[0], 1) or job.wait_for_parts(both[1], 1)
    pid = json.loads((job.output / "_lease.json").read_text())["pid"]
    [first], [second] = ([p for p in both if (p.pid == pid) == is_it] for is_it in (True, False))
    first.send_signal(signal.SIGSTOP)  # however late the other one is, it meets a run at work
    refused, _ = second.communicate(timeout=PATIENCE_SECONDS)
    first.send_signal(signal.SIGCONT)
    worked, _ = first.communicate(timeout=PATIENCE_SECONDS)
    assert (first.returncode, second.returncode) == (0, 3), worked + refused
    assert f"{IMAGES:,} rows and 0 errors now" in worked
    said = refused.splitlines()[-1]
    assert said.startswith(f"error: --output {job.output}: run ")
    assert holder(first) in said and "is at work there; wait for it or stop it" in said
    assert "Traceback" not in refused
    check_each_image_once(job, images)
    print(f"attempt {attempt}: process {first.pid} worked; the other: {said}")


def test_a_run_that_was_killed_is_taken_over(
    new_job: Callable[..., Job], images: list[str]
) -> None:
    job = new_job("out")
    killed = job.start()
    assert job.wait_for_parts(killed, 5)
    killed.kill()
    killed.communicate(timeout=PATIENCE_SECONDS)
    committed = len(job.rows())
    assert 0 < committed < IMAGES
    printed = job.finish()
    assert "taking over from run " in printed and holder(killed) in printed
    assert f"{committed:,} done before" in printed
    check_each_image_once(job, images)


def test_workers_that_outlive_their_killed_launcher_commit_nothing_after_the_takeover(
    new_job: Callable[..., Job], images: list[str], survivors: list[psutil.Process]
) -> None:
    """They are stopped, and wake up when another run has done their work."""
    undisturbed = new_job("undisturbed")
    undisturbed.finish()
    expected = check_each_image_once(undisturbed, images)
    job = new_job("out", *TWO_WORKERS)
    random = np.random.default_rng(3)
    for _ in range(ROUNDS):
        launcher = job.start()
        assert job.wait_for_parts(launcher, int(random.integers(1, 10)))
        assert len(workers(launcher)) == 2
        for worker in workers(launcher):
            worker.suspend()
            survivors.append(worker)
        launcher.kill()
        launcher.wait(PATIENCE_SECONDS)  # not until its output ends: the workers hold it, too
    assert "taking over from run " in job.finish()
    check_each_image_once(job, images)
    before = committed(job)
    assert [worker.status() for worker in survivors] == ["stopped"] * 2 * ROUNDS
    for worker in survivors:
        worker.resume()
    _, alive = psutil.wait_procs(survivors, timeout=PATIENCE_SECONDS)
    assert not alive
    assert committed(job) == before
    job.finish()  # a worker may have begun a file before it knew, which goes now
    rows = check_each_image_once(job, images)
    np.testing.assert_array_equal(
        *(np.stack(table["feature_vector"]) for table in (rows, expected))
    )
    print(f"{len(survivors)} workers outlived their launchers and changed nothing")


def test_a_launcher_is_killed_and_the_next_starts_at_once(
    new_job: Callable[..., Job], images: list[str]
) -> None:
    """The workers of the one end a moment later: they may finish a part, never a second one."""
    random = np.random.default_rng(4)
    job = new_job("out", *TWO_WORKERS)
    for _ in range(ROUNDS):
        launcher = job.start()
        job.wait_for_lease(launcher)  # workers of the one before may still finish a part
        assert job.wait_for_parts(launcher, int(random.integers(1, 8)))
        launcher.kill()
        launcher.wait(PATIENCE_SECONDS)
    assert holder(launcher) in job.finish()
    check_each_image_once(job, images)
