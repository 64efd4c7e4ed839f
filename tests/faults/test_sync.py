"""`--mode sync` computes only what is new or changed, and its result appears as a whole."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from pipeline import lease, publish
from pipeline.output import Output
from tests.conftest import Finished, run_command, write_random_images
from transforms.snapshot import load_features

Run = Callable[..., Finished]


@pytest.fixture
def base(tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run) -> list[object]:
    """The command of a finished sync of 200 images; then 20 come, 5 change and 3 go."""
    paths = write_random_images(tmp_path / "in", 200)
    command = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model]
    command += ["--rows_per_file", 40, "--mode", "sync"]
    assert run_here(*command).code == 0
    new = write_random_images(tmp_path / "new", 20)
    for number, path in enumerate(new):
        shutil.move(path, tmp_path / "in" / f"new-{number}.png")
    for path, other in zip(paths[:5], paths[5:10], strict=True):
        path.write_bytes(other.read_bytes())
        os.utime(path, (1, 1))
    for path in paths[10:13]:
        path.unlink()
    return command


def rows(table: pd.DataFrame) -> dict[str, tuple[str, bytes]]:
    """Version and vector by id; the ids must be unique."""
    assert table["id"].is_unique
    return {
        row.id: (row.version, np.asarray(row.feature_vector, np.float32).tobytes())
        for row in table.itertuples()
    }


def state(directory: pathlib.Path) -> dict[str, tuple[str, bytes]]:
    return rows(load_features(str(directory)).to_pandas())


def test_only_the_difference_is_computed_and_equals_a_run_from_scratch(
    tmp_path: pathlib.Path, base: list[object], run_here: Run
) -> None:
    dry = run_here(*base, "--dry_run")
    assert dry.code == 0
    plan = "217 images: +20 new, 5 changed, 3 gone, 192 unchanged"
    assert plan in dry.err
    done = run_here(*base)
    assert done.code == 0
    assert plan in done.err
    assert "25 rows and 0 errors now" in done.out
    scratch = [tmp_path / "scratch" if word == tmp_path / "out" else word for word in base]
    assert run_here(*scratch).code == 0
    synced, whole = state(tmp_path / "out"), state(tmp_path / "scratch")
    assert synced.keys() == whole.keys()
    for image_id, (version, vector) in synced.items():
        # In a batch with other images the last bit may differ.
        expected = np.frombuffer(whole[image_id][1], np.float32)
        np.testing.assert_allclose(np.frombuffer(vector, np.float32), expected, rtol=1e-5)
        assert version == whole[image_id][0]
    assert rows(pd.read_parquet(tmp_path / "out")) == state(tmp_path / "out")
    assert "+0 new, 0 changed, 0 gone, 217 unchanged" in run_here(*base).err


@pytest.mark.parametrize("place", ["before_journal", "after_moves"])
def test_killed_while_it_publishes_it_leaves_one_of_the_two_states(
    tmp_path: pathlib.Path, base: list[object], run_here: Run, place: str
) -> None:
    output = tmp_path / "out"
    before = state(output)
    killed = run_command(*base, env=os.environ | {"BEAM_IMAGE_FEATURES_KILL_AT": place})
    assert killed.code == -9
    assert state(output) == before
    done = run_here(*base)
    assert done.code == 0
    assert "taking over from run" in done.err
    after = state(output)
    assert (len(after), len(after.keys() - before.keys())) == (217, 20)
    assert rows(pd.read_parquet(output)) == after
    left = {path.name for path in output.iterdir() if path.name.startswith("_")}
    assert left == {"_SUCCESS", "_run.json", "_snapshot.json"}


def test_an_input_that_vanished_changes_nothing(
    tmp_path: pathlib.Path, base: list[object], run_here: Run
) -> None:
    before = state(tmp_path / "out")
    shutil.rmtree(tmp_path / "in" / "000")
    refused = run_here(*base)
    assert refused.code == 2
    assert "200 of 200 rows are of images that the inputs no longer hold" in refused.err
    assert state(tmp_path / "out") == before


def test_errors_are_tried_again_when_asked_for(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run
) -> None:
    good = write_random_images(tmp_path / "in", 4)
    data = good[0].read_bytes()
    good[0].write_bytes(b"")
    command = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model]
    assert "1 errors now" in run_here(*command).out
    status = good[0].stat()
    good[0].write_bytes(data)
    os.utime(good[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "0 errors now" in run_here(*command).out
    assert len(state(tmp_path / "out")) == 3
    assert run_here(*command, "--mode", "sync", "--retry_errors").code == 0
    assert len(state(tmp_path / "out")) == 4
    assert not list((tmp_path / "out" / "_errors").iterdir())


def test_a_second_run_is_refused_while_one_is_at_work(
    tmp_path: pathlib.Path, base: list[object], run_here: Run
) -> None:
    with lease.held(Output(str(tmp_path / "out")), "0123456789ab"):
        refused = run_here(*base)
    assert refused.code == 2
    assert "run 0123456789ab on " in refused.err
    assert run_here(*base).code == 0


def test_a_worker_that_lost_the_lease_may_not_commit(tmp_path: pathlib.Path) -> None:
    output = Output(str(tmp_path))
    with lease.held(output, "first"):
        lease.check_held(output.path("_lease.json"), "first")
        with pytest.raises(lease.LeaseLostError, match="lost the output to run first"):
            lease.check_held(output.path("_lease.json"), "other")
    with pytest.raises(lease.LeaseLostError, match="has ended"):
        lease.check_held(output.path("_lease.json"), "first")
    assert publish.read_journal(output) is None
