"""DuckDB, pandas and pyarrow read an output directory as it is."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest

from tests.helpers.images import write_random_images
from tests.helpers.tiny_model import TINY_WIDTH


@pytest.fixture
def output(tiny_model, run_here, tmp_path):
    """60 rows in several parts, one error row, a label column and both kinds of side files."""
    write_random_images(tmp_path / "images", 60)
    (tmp_path / "images" / "000" / "broken.png").write_bytes(b"no image")
    done = run_here(
        *("--input", tmp_path / "images", "--output", tmp_path / "out", "--model", tiny_model),
        *("--rows_per_file", 20, "--label_from_parent"),
    )
    assert done.code == 0, done.err
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) > 1
    return tmp_path / "out"


def test_pandas(output):
    table = pd.read_parquet(output)
    assert len(table) == 60
    assert table["id"].is_unique
    assert set(table["label"]) == {"000"}
    assert set(table["width"]) == set(table["height"]) == {20}
    assert np.stack(table["feature_vector"]).shape == (60, TINY_WIDTH)


def test_pyarrow_dataset(output):
    dataset = pa.dataset.dataset(output)
    assert dataset.count_rows() == 60
    assert dataset.schema.field("feature_vector").type == pa.list_(
        pa.field("element", pa.float32(), nullable=False), TINY_WIDTH
    )
    assert dataset.schema.names[:5] == ["id", "uri", "width", "height", "version"]


def test_duckdb(output):
    [rows] = duckdb.sql(
        f"select count(*), count(distinct id), min(len(feature_vector)) from '{output}/*.parquet'"
    ).fetchall()
    assert rows == (60, 60, TINY_WIDTH)
    [[nearest]] = duckdb.sql(
        f"""select b.id from '{output}/*.parquet' a, '{output}/*.parquet' b
        where a.id like '%000007.png'
        order by list_distance(a.feature_vector, b.feature_vector) limit 1"""
    ).fetchall()
    assert nearest.endswith("000007.png")
    [[message]] = duckdb.sql(f"select message from '{output}/_errors/*.parquet'").fetchall()
    assert "not an image" in message
