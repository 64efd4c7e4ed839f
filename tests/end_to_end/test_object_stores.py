"""A whole run with its output on `gs://` and `s3://`: emulators of both, and all else as it is."""

from __future__ import annotations

import io
import json
import pathlib
from collections.abc import Callable, Iterator

import pandas as pd
import pytest

from tests.helpers import object_stores
from tests.helpers.commands import Finished
from tests.helpers.images import write_random_images
from tests.helpers.object_stores import Store
from tests.helpers.tiny_model import TINY_WIDTH
from transforms import storage


@pytest.fixture(params=[object_stores.gcs, object_stores.s3])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with request.param() as store:
        yield store


def rows(directory: str) -> pd.DataFrame:
    names = [name for name in storage.list_names(directory) if name.startswith("part-")]
    parts = []
    for name in names:
        with storage.open_input(storage.join(directory, name)) as file:
            parts.append(pd.read_parquet(io.BytesIO(file.read())))
    return pd.concat(parts)


def test_a_run_is_complete_continued_and_synchronised(
    store: Store,
    tiny_model: pathlib.Path,
    run_here: Callable[..., Finished],
    tmp_path: pathlib.Path,
) -> None:
    images = write_random_images(tmp_path / "images", 12)
    (tmp_path / "images" / "broken.png").write_text("no image")
    output = storage.join(store.uri, "nightly", "out")
    command = ("--input", tmp_path / "images", "--output", output, "--model", tiny_model)
    command = (*command, "--rows_per_file", 8, *store.flags)

    first = run_here(*command)
    assert first.code == 0, first.err
    assert "13 matched: 12 rows and 1 errors now, 0 done before" in first.out
    found = rows(output)
    assert sorted(found["id"]) == sorted(map(str, images))
    assert {len(vector) for vector in found["feature_vector"]} == {TINY_WIDTH}

    again = run_here(*command)
    assert again.code == 0, again.err
    assert "13 matched: 0 rows and 0 errors now, 13 done before" in again.out

    images[0].unlink()
    synchronised = run_here(*command, "--mode", "sync")
    assert synchronised.code == 0, synchronised.err
    assert sorted(rows(output)["id"]) == sorted(map(str, images[1:]))

    left = {name for name in storage.list_names(output) if not name.startswith("part-")}
    assert left == {"_SUCCESS", "_errors", "_previous", "_run.json", "_snapshot.json"}
    with storage.open_input(storage.join(output, "_run.json")) as file:
        assert json.loads(file.read())["succeeded"]
