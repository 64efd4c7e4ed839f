"""`--mode sync` computes only what is new or changed, and its result appears as a whole."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from tests.helpers.commands import PATIENCE_SECONDS, Finished, start
from tests.helpers.images import write_random_images
from tests.helpers.jobs import TRIED, Job, kill_group, logged, save_counting_model, waits
from tests.helpers.opened_files import OpenedFiles
from tests.helpers.soak import usual_or_soak
from transforms.dataset.snapshot import load_features

Run = Callable[..., Finished]
Versions = dict[str, str]

KILLS = usual_or_soak(3, 10)
IMAGES, NEW, CHANGED, GONE = 1000, 100, 10, 5
STEPS = [
    ("before_journal", "evening"),
    ("after_journal", "evening"),
    ("after_moves", "evening"),
    ("after_snapshot", "morning"),
    ("after_removes", "morning"),
]
PLAN = "1,095 images: +100 new, 10 changed, 5 gone, 985 unchanged"


@dataclasses.dataclass(frozen=True)
class Night:
    """1,000 images; overnight 100 come, 10 change and 5 go.

    Attributes:
      images: the directory as the command names it: a link to that of the one day or the other.
      evening, morning: the directories.
      model: of the command.
      opened: how often images of the morning were opened until now.
      synced: the output of the evening.
    """

    images: pathlib.Path
    evening: pathlib.Path
    morning: pathlib.Path
    model: pathlib.Path
    opened: OpenedFiles
    synced: pathlib.Path

    def job(self, output: pathlib.Path) -> Job:
        """The nightly command; its images are counted as they are read."""
        arguments = ["--input", str(self.images), "--output", str(output), "--mode", "sync"]
        arguments += ["--model", str(self.model), "--engine", "openvino", "--rows_per_file", "100"]
        return Job(arguments, output, self.opened.count)

    def show(self, day: pathlib.Path) -> Versions:
        """Makes this the day, and returns the version of each of its images by id."""
        link = self.images.with_name("link")
        link.symlink_to(day)
        link.replace(self.images)
        statuses = {path: path.stat() for path in self.images.glob("*/*.png")}
        return {str(path): f"{s.st_size}-{s.st_mtime_ns}" for path, s in statuses.items()}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, tiny_model: pathlib.Path) -> Iterator[Night]:
    root = tmp_path_factory.mktemp("night")
    evening, morning = root / "evening", root / "morning"
    paths = write_random_images(evening, IMAGES)
    shutil.copytree(evening, morning, copy_function=os.link)
    for path in write_random_images(root / "new", NEW):
        path.rename(morning / "000" / f"new-{path.name}")
    for path, other in zip(paths[:CHANGED], paths[CHANGED:], strict=False):
        changed = morning / path.relative_to(evening)
        changed.unlink()
        shutil.copyfile(other, changed)
    for path in paths[-GONE:]:
        (morning / path.relative_to(evening)).unlink()
    with OpenedFiles(*morning.iterdir()) as opened:
        made = Night(root / "in", evening, morning, tiny_model, opened, root / "synced")
        made.show(evening)
        made.job(made.synced).finish()
        yield made


@pytest.fixture
def output(night: Night, tmp_path: pathlib.Path) -> pathlib.Path:
    """The output of the evening."""
    return shutil.copytree(night.synced, tmp_path / "out")


@pytest.fixture(scope="module")
def scratch(night: Night, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The rows of a run from scratch in the morning."""
    job = night.job(tmp_path_factory.mktemp("scratch") / "out")
    night.show(night.morning)
    job.finish()
    return job.rows()


def versions(directory: pathlib.Path) -> Versions:
    """What a reader sees: version by id; the ids must be unique."""
    table = load_features(str(directory), ["id", "version"])
    seen = dict(zip(table["id"].to_pylist(), table["version"].to_pylist(), strict=True))
    assert len(seen) == len(table)
    return seen


def check_equal(job: Job, scratch: pd.DataFrame) -> None:
    """The output is that of a run from scratch, for any reader."""
    rows = job.rows()
    assert rows.index.equals(scratch.index)
    for column in ("uri", "version", "width", "height"):
        assert rows[column].equals(scratch[column])
    ours, theirs = (np.stack(table["feature_vector"]) for table in (rows, scratch))
    # In a batch with other images the last bit may differ.
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    loaded = load_features(str(job.output)).to_pandas().set_index("id").sort_index()
    pd.testing.assert_frame_equal(loaded, rows)
    job.check_nothing_temporary()


def test_only_the_difference_is_computed_and_equals_a_run_from_scratch(
    night: Night,
    output: pathlib.Path,
    scratch: pd.DataFrame,
    run_here: Run,
    tmp_path: pathlib.Path,
) -> None:
    """The model itself counts what it sees."""
    log = tmp_path / "seen.log"
    model = save_counting_model(tmp_path / "model", log)
    command = ["--input", night.images, "--output", output, "--mode", "sync", "--model", model]
    command += ["--trust_model", "--rows_per_file", 100]
    night.show(night.evening)
    assert run_here(*command, "--overwrite").code == 0
    assert logged(log) == IMAGES
    night.show(night.morning)
    dry = run_here(*command, "--dry_run")
    assert dry.code == 0 and PLAN in dry.err
    assert logged(log) == 0
    done = run_here(*command)
    assert done.code == 0 and PLAN in done.err
    assert "110 rows and 0 errors now" in done.out
    assert logged(log) == NEW + CHANGED
    assert list(night.job(output).rows().index) == list(scratch.index)
    assert "+0 new, 0 changed, 0 gone, 1,095 unchanged" in run_here(*command).err
    assert logged(log) == 0


@pytest.mark.parametrize(("place", "shown"), usual_or_soak(STEPS[1::2], STEPS))
def test_killed_at_each_step_of_the_commit_it_leaves_one_of_the_two_states(
    night: Night,
    output: pathlib.Path,
    scratch: pd.DataFrame,
    run_here: Run,
    place: str,
    shown: str,
) -> None:
    job = night.job(output)
    states = {"evening": night.show(night.evening), "morning": night.show(night.morning)}
    before = job.computed()
    process = job.start(BEAM_IMAGE_FEATURES_KILL_AT=place)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == -signal.SIGKILL
    assert versions(output) == states[shown]
    done = run_here(*job.arguments)
    assert done.code == 0 and "taking over from run" in done.err
    check_equal(job, scratch)
    assert job.computed() - before == NEW + CHANGED + TRIED, "none is computed again"


def test_killed_at_random_moments_it_leaves_one_of_the_two_states(
    night: Night, output: pathlib.Path, scratch: pd.DataFrame, run_here: Run
) -> None:
    random = np.random.default_rng(10)
    job = night.job(output)
    states = {"evening": night.show(night.evening), "morning": night.show(night.morning)}
    found: collections.Counter[str] = collections.Counter()
    kills = 0
    for kill in range(KILLS):
        shutil.rmtree(output)
        shutil.copytree(night.synced, output)
        process = job.start()
        sign = output / ("_staging", "_copies", "_publish.json")[kill % 3]
        while not sign.exists() and not waits(process, 0.0005):
            pass
        if not waits(process, random.uniform(0, 0.05)):
            kill_group(process)
        kills += process.returncode == -signal.SIGKILL
        left = versions(output)
        [shown] = [day for day, state in states.items() if left == state]
        found[f"{sign.name}: {shown}"] += 1
        assert run_here(*job.arguments).code == 0
        check_equal(job, scratch)
    print(f"{kills} kills, after what appeared a reader then saw: {dict(found)}")
    assert kills > KILLS / 2


READER = """
import collections, hashlib, select, sys
from transforms.snapshot import load_features
seen = collections.Counter()
while True:
    rows = load_features(sys.argv[1], ["id", "version"]).to_pylist()
    state = hashlib.sha256(repr(sorted((row["id"], row["version"]) for row in rows)).encode())
    if not seen:
        print("reading", flush=True)
    seen[state.hexdigest()] += 1
    if select.select([sys.stdin], [], [], 0)[0]:
        break
for state, times in seen.items():
    print(state, times)
"""


def test_a_reader_never_sees_a_mixture(night: Night, output: pathlib.Path, run_here: Run) -> None:
    """Another process reads all the time, while the output goes from state to state and back."""
    states = [night.show(night.evening), night.show(night.morning)]
    hashes = [hashlib.sha256(repr(sorted(s.items())).encode()).hexdigest() for s in states]
    command = [sys.executable, "-c", READER, output]
    with start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        for turn in range(10):
            night.show((night.morning, night.evening)[turn % 2])
            done = run_here(*night.job(output).arguments)
            assert done.code == 0, done.err
        printed, _ = reader.communicate("stop", timeout=PATIENCE_SECONDS)
    assert reader.returncode == 0
    seen = {state: int(times) for state, times in (line.split() for line in printed.splitlines())}
    assert seen.keys() == set(hashes)
    print(f"10 publishes, {sum(seen.values())} reads: each saw one of the two states")


@pytest.fixture
def base(tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run) -> list[object]:
    """The command of a finished sync of 21 images."""
    write_random_images(tmp_path / "in", 20)
    write_random_images(tmp_path / "in" / "more", 1)
    command = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model]
    command += ["--mode", "sync"]
    assert run_here(*command).code == 0
    return command


def test_an_input_that_vanished_changes_nothing(
    tmp_path: pathlib.Path, base: list[object], run_here: Run
) -> None:
    before = versions(tmp_path / "out")
    shutil.rmtree(tmp_path / "in" / "000")
    refused = run_here(*base)
    assert refused.code == 4
    assert "20 of 21 rows are of images that the inputs no longer hold" in refused.err
    assert versions(tmp_path / "out") == before


def test_errors_are_tried_again_when_asked_for(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run
) -> None:
    good = write_random_images(tmp_path / "in", 4)
    data = good[0].read_bytes()
    good[0].write_bytes(b"?" * len(data))
    command = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model]
    assert "1 errors now" in run_here(*command).out
    status = good[0].stat()
    good[0].write_bytes(data)
    os.utime(good[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "0 errors now" in run_here(*command).out
    assert len(versions(tmp_path / "out")) == 3
    assert run_here(*command, "--mode", "sync", "--retry_errors").code == 0
    assert len(versions(tmp_path / "out")) == 4
    assert not list((tmp_path / "out").glob("_errors/*"))
