"""The same job on a real Flink: the design's fused, in-order commit holds on another engine."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tests.helpers.commands import ROOT, run_command
from tests.helpers.flink_job_server import job_server_jar
from tests.helpers.images import write_random_images


def test_flink_gives_the_same_ids_and_vectors(tiny_model, tmp_path):
    images = tmp_path / "images"
    paths = [str(path) for path in write_random_images(images, 2000, suffix=".jpg")]
    scratch = tmp_path / "java"
    scratch.mkdir()
    flink = (
        *("--runner", "FlinkRunner", "--flink_master=[local]", "--parallelism=2"),
        f"--flink_job_server_jar={job_server_jar(ROOT / '.cache' / 'flink')}",
        f"--job_server_jvm_properties=-Djava.io.tmpdir={scratch}",
    )
    tables = []
    for name, runner in (("direct", ("--runner", "DirectRunner")), ("flink", flink)):
        out = tmp_path / name
        done = run_command(
            *(*runner, "--input", images, "--output", out, "--model", tiny_model),
            *("--engine", "openvino", "--rows_per_file", 100),
        )
        assert done.code == 0, done.err
        assert "2,000 matched: 2,000 rows and 0 errors" in done.out
        assert 18 <= len(list(out.glob("part-*.parquet"))) <= 20
        tables.append(pd.read_parquet(out).sort_values("id", ignore_index=True))
    direct, flink_table = tables
    assert direct["id"].tolist() == flink_table["id"].tolist() == sorted(paths)
    np.testing.assert_array_equal(
        np.stack(direct["feature_vector"]), np.stack(flink_table["feature_vector"])
    )
