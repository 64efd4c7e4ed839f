"""Many small images in each running mode: every id once, the same vectors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.helpers.commands import run_command
from tests.helpers.images import write_random_images
from tests.helpers.soak import usual_or_soak

COUNT = usual_or_soak(4_000, 20_000)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    directory = tmp_path_factory.mktemp("many")
    return directory, [str(path) for path in write_random_images(directory, COUNT, suffix=".jpg")]


@pytest.fixture(scope="module")
def one_worker(images, tiny_model, tmp_path_factory) -> pd.DataFrame:
    return read_after_running(images, tiny_model, tmp_path_factory.mktemp("one") / "out")


def read_after_running(images, model, out, *flags) -> pd.DataFrame:
    directory, paths = images
    done = run_command(
        *("--runner", "DirectRunner", "--input", directory, "--output", out, "--model", model),
        *("--engine", "openvino", "--rows_per_file", COUNT // 20, *flags),
    )
    assert done.code == 0, done.err
    parts = list(out.glob("part-*.parquet"))
    assert 18 <= len(parts) <= 20
    table = pd.read_parquet(out)
    assert sorted(table["id"]) == sorted(paths)
    return table.set_index("id").sort_index()


def test_every_id_once_in_about_twenty_parts(one_worker):
    vectors = np.stack(one_worker["feature_vector"])
    assert vectors.shape == (COUNT, 8)
    assert len(np.unique(vectors, axis=0)) == COUNT, "each image has other pixels"


@pytest.mark.parametrize("mode", ["multi_processing", "multi_threading"])
def test_two_workers_give_the_same_ids_and_vectors(mode, images, tiny_model, one_worker, tmp_path):
    table = read_after_running(
        *(images, tiny_model, tmp_path / "out"),
        *("--direct_num_workers=2", f"--direct_running_mode={mode}"),
    )
    assert table.index.equals(one_worker.index)
    ours, theirs = (np.stack(t["feature_vector"]) for t in (table, one_worker))
    np.testing.assert_array_equal(ours, theirs)
