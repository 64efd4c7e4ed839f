"""Workers that see nothing of the launcher: each kind of model gives DirectRunner's vectors."""

from __future__ import annotations

import io
import pathlib
import shutil
import tarfile
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from tests.helpers import object_stores
from tests.helpers.commands import ROOT, Finished
from tests.helpers.images import write_random_images
from tests.helpers.prism import prism_binary
from tests.helpers.tiny_model import TINY_SIZE, save_tiny_model
from tests.helpers.web import web_server
from tests.helpers.worker_pool import worker_pool
from transforms import storage
from transforms.models import builtin


@pytest.fixture
def prism() -> pathlib.Path:
    return prism_binary(ROOT / ".cache" / "prism")


@pytest.fixture
def launcher(
    prism: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> pathlib.Path:
    """What workers do not see: the launcher's home, its cache, and its models in it."""
    home = tmp_path / "launcher"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("BEAM_IMAGE_FEATURES_CACHE", str(home / "cache"))
    return home


@pytest.fixture
def models(launcher: pathlib.Path, bucket: str) -> Iterator[dict[str, str]]:
    """A model of each kind, each of them another one."""
    import keras

    save_tiny_model(launcher / "saved_model", seed=21)
    keras.utils.set_random_seed(22)
    inputs = keras.Input((TINY_SIZE, TINY_SIZE, 3))
    hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3)(inputs))
    keras.Model(inputs, hidden).save(launcher / "model.keras")
    archives = {}
    for seed in (23, 24):
        archives[seed] = launcher / f"{seed}.tar.gz"
        with tarfile.open(archives[seed], "w:gz") as tar:
            tar.add(save_tiny_model(launcher / f"archived{seed}", seed), "model")
    at_gs = f"{bucket}/hub/model.tar.gz"
    upload(archives[24], at_gs)
    with web_server(launcher) as url:
        yield {
            "a SavedModel": str(launcher / "saved_model"),
            "a .keras file": str(launcher / "model.keras"),
            "an archive by HTTP": f"{url}/23.tar.gz",
            "an archive at gs://": at_gs,
            "built in": builtin.NAME,
        }


@pytest.fixture
def bucket() -> Iterator[str]:
    with object_stores.gcs_with_batches() as store:
        yield store.uri


def upload(path: pathlib.Path, uri: str) -> None:
    storage.write_atomically(uri, lambda local_path: shutil.copy(path, local_path) and None)


def vectors(output: str) -> tuple[list[str], np.ndarray]:
    parts = []
    for name in storage.list_names(output):
        if name.startswith("part-"):
            with storage.open_input(storage.join(output, name)) as file:
                parts.append(pd.read_parquet(io.BytesIO(file.read())))
    table = pd.concat(parts).sort_values("id")
    return table["id"].tolist(), np.stack(table["feature_vector"])


def test_workers_get_each_kind_of_model_themselves(
    bucket: str,
    prism: pathlib.Path,
    launcher: pathlib.Path,
    models: dict[str, str],
    run_here: Callable[..., Finished],
    tmp_path: pathlib.Path,
) -> None:
    for path in write_random_images(tmp_path / "images", 5):
        upload(path, f"{bucket}/images/{path.name}")
    command = ("--input", f"{bucket}/images", "--rows_per_file", 3)
    with worker_pool(hidden=launcher, home=tmp_path / "worker") as address:
        there = (
            *("--runner", "PrismRunner", f"--prism_location={prism}"),
            *("--environment_type=EXTERNAL", f"--environment_config={address}"),
            *("--temp_location", f"{bucket}/tmp"),
        )
        for number, (kind, model) in enumerate(models.items()):
            answers = []
            for place, flags in (("here", ()), ("there", there)):
                output = f"{bucket}/{place}{number}"
                done = run_here(*command, "--model", model, "--output", output, *flags)
                assert done.code == 0, (kind, place, done.err)
                assert "5 matched: 5 rows and 0 errors now" in done.out
                answers.append(vectors(output))
            (ids, expected), (ids_there, found) = answers
            assert ids == ids_there, kind
            np.testing.assert_array_equal(found, expected, kind)
    staged = sorted(storage.list_names(f"{bucket}/tmp/models"))
    assert len(staged) == 2, staged  # the SavedModel and the .keras file
    kept = [path.name for path in (tmp_path / "worker" / "cache" / "models").glob("sha256-*")]
    assert len(kept) == 4
