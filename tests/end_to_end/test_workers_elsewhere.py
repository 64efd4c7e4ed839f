"""Workers that see nothing of the launcher: each kind of model gives DirectRunner's vectors."""

from __future__ import annotations

import io
import os
import pathlib
import shutil
import signal
import tarfile
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import PIL.Image
import psutil
import pytest

from tests.helpers import object_stores
from tests.helpers.commands import PATIENCE_SECONDS, ROOT, Finished
from tests.helpers.images import write_random_images
from tests.helpers.jobs import Job
from tests.helpers.prism import prism_binary
from tests.helpers.tiny_model import TINY_SIZE, save_tiny_model
from tests.helpers.web import web_server
from tests.helpers.worker_pool import worker_pool
from transforms import storage
from transforms.models import builtin


@pytest.fixture(scope="module")
def prism() -> pathlib.Path:
    return prism_binary(ROOT / ".cache" / "prism")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_stores.gcs() as store:
        yield store.uri


@pytest.fixture(scope="module")
def launcher(
    prism: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[pathlib.Path]:
    """What workers do not see: the launcher's home, its cache, and its models in it."""
    home = tmp_path_factory.mktemp("launcher")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("BEAM_IMAGE_FEATURES_CACHE", str(home / "cache"))
        yield home


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The home of the workers."""
    return tmp_path_factory.mktemp("worker") / "home"


@pytest.fixture(scope="module")
def elsewhere(
    bucket: str, prism: pathlib.Path, launcher: pathlib.Path, worker: pathlib.Path
) -> Iterator[tuple[str, ...]]:
    """The flags of a runner whose workers see nothing of the launcher."""
    with worker_pool(hidden=launcher, home=worker) as address:
        yield (
            *("--runner", "PrismRunner", f"--prism_location={prism}"),
            # Else Beam keeps it, and DirectRunner takes it in tests that come later.
            "--experiments=disable_prism_server_singleton",
            *("--environment_type=EXTERNAL", f"--environment_config={address}"),
        )


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
    elsewhere: tuple[str, ...],
    worker: pathlib.Path,
    models: dict[str, str],
    run_here: Callable[..., Finished],
    tmp_path: pathlib.Path,
) -> None:
    for path in write_random_images(tmp_path / "images", 5):
        upload(path, f"{bucket}/images/{path.name}")
    command = ("--input", f"{bucket}/images", "--rows_per_file", 3)
    there = (*elsewhere, "--temp_location", f"{bucket}/tmp")
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
    staged = storage.list_names(f"{bucket}/tmp/models")
    assert len(staged) == 2, staged  # the SavedModel and the .keras file
    assert len(list((worker / "cache" / "models").glob("sha256-*"))) == 4


def save_waiting_model(directory: pathlib.Path) -> pathlib.Path:
    """A model that is never done with a white image."""
    import tensorflow as tf

    class Waiting(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def __call__(self, images):
            white = tf.reduce_any(tf.reduce_min(images, [1, 2, 3]) == 1.0)
            rounds = tf.where(white, tf.int64.max, 1)
            state = (tf.constant(0, tf.int64), tf.reduce_mean(images, [1, 2]))
            return tf.while_loop(
                lambda done, _: done < rounds, lambda done, answer: (done + 1, answer), state
            )[1]

    tf.saved_model.save(Waiting(), str(directory))
    return directory


def test_ctrl_c_cancels_the_job_and_the_output_can_be_continued(
    elsewhere: tuple[str, ...],
    launcher: pathlib.Path,
    run_here: Callable[..., Finished],
    tmp_path: pathlib.Path,
) -> None:
    """The last test here: the worker goes on with the batch that it has begun."""
    write_random_images(tmp_path / "images", 12)
    white = tmp_path / "images" / "white.png"
    PIL.Image.new("RGB", (8, 8), "white").save(white)
    command = (
        *("--input", tmp_path / "images", "--output", tmp_path / "out", "--rows_per_file", 1),
        *("--batch_size", 1, "--model", save_waiting_model(launcher / "waiting")),
        *("--shared_filesystem", "--model_staging_location", tmp_path / "models"),
    )
    job = Job([*map(str, command), *elsewhere], tmp_path / "out")
    process = job.start()
    assert job.wait_for_parts(process, 1)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: Prism gets it, too
    printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + signal.SIGINT, printed
    assert "cancelling the job of PrismRunner\nthe job of PrismRunner is cancelled\n" in printed, (
        printed
    )
    assert printed.endswith("what is committed stays; the same command continues\n")
    assert "Traceback" not in printed
    assert psutil.wait_procs(children, timeout=PATIENCE_SECONDS)[1] == []

    white.unlink()
    done = run_here(*command)
    assert done.code == 0, done.err
    assert "12 matched" in done.out
    assert len(job.rows()) == 12
