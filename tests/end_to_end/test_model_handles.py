"""Models from archives and servers, and models that are programs: what the person meets."""

from __future__ import annotations

import functools
import hashlib
import http.server
import pathlib
import tarfile
import threading

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.helpers.commands import PATIENCE_SECONDS, run_command
from tests.helpers.images import write_random_images
from tests.helpers.tiny_model import TINY_WIDTH


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("images")
    write_random_images(directory, 10)
    return directory


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A model cache of this test's own."""
    monkeypatch.setenv("BEAM_IMAGE_FEATURES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def archive(tiny_model: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "site" / "model.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tiny_model, arcname=".")
    return path


@pytest.fixture
def site(archive: pathlib.Path):
    """The address of a real server on loopback that serves the archive."""
    handler = functools.partial(QuietHandler, directory=str(archive.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(PATIENCE_SECONDS)
    server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def vectors(output: pathlib.Path) -> np.ndarray:
    return np.stack(pd.read_parquet(output).sort_values("id")["feature_vector"])


def test_archives_give_the_vectors_of_the_directory(
    images, tiny_model, archive, site, cache, run_here, tmp_path
):
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    handles = {"directory": tiny_model, "file": archive, "url": f"{site}/model.tar.gz"}
    answers = {}
    for name, handle in handles.items():
        pin = ["--model_sha256", digest] if name != "directory" else []
        out = tmp_path / name
        done = run_here("--input", images, "--output", out, "--model", handle, *pin)
        assert done.code == 0, done.err
        answers[name] = vectors(out)
    assert answers["directory"].shape == (10, TINY_WIDTH)
    np.testing.assert_array_equal(answers["file"], answers["directory"])
    np.testing.assert_array_equal(answers["url"], answers["directory"])


def test_a_wrong_checksum_is_a_mistake_and_nothing_is_written(
    images, site, cache, run_here, tmp_path
):
    done = run_here(
        *("--input", images, "--output", tmp_path / "out", "--model", f"{site}/model.tar.gz"),
        *("--model_sha256", "0" * 64),
    )
    assert done.code == 2
    last = done.err.splitlines()[-1]
    assert last.startswith(f"error: --model {site}/model.tar.gz: its SHA-256 is ")
    assert "0" * 64 in last
    assert not (tmp_path / "out").exists()
    assert not list(cache.glob("models/sha256-*"))


def test_a_missing_archive_is_a_mistake(images, site, cache, run_here, tmp_path):
    done = run_here(
        *("--input", images, "--output", tmp_path / "out", "--model", f"{site}/none.tar.gz")
    )
    assert done.code == 2
    assert "404" in done.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def reading(images, path: pathlib.Path):
    level = tf.strings.to_number(tf.io.read_file(str(path)))
    return tf.reduce_mean(images, [1, 2]) * level


def writing(images, path: pathlib.Path):
    with tf.control_dependencies([tf.io.write_file(str(path), "3")]):
        return tf.reduce_mean(images, [1, 2]) * 3.0


def calling_python(images, path: pathlib.Path):
    def triple(means):
        return means * 3.0

    means = tf.numpy_function(triple, [tf.reduce_mean(images, [1, 2])], tf.float32)
    return tf.ensure_shape(means, [None, 3])


@pytest.mark.parametrize(
    ("function", "op", "runs"),
    [(reading, "ReadFile", True), (writing, "WriteFile", True), (calling_python, "PyFunc", False)],
)
def test_a_model_that_reaches_outside_is_refused_by_name(
    function, op, runs, images, run_here, tmp_path
):
    path = tmp_path / "level"
    path.write_text("3")

    class Outside(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32)])
        def __call__(self, batch):
            return function(batch, path)

    tf.saved_model.save(Outside(), str(tmp_path / "model"))
    arguments = ("--input", images, "--output", tmp_path / "out", "--model", tmp_path / "model")
    done = run_here(*arguments)
    assert done.code == 2
    assert f"contains ops that reach outside the model: {op}" in done.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()

    trusted = run_command(*arguments, "--trust_model")
    if runs:
        assert trusted.code == 0, trusted.err
        means = vectors(tmp_path / "out") / 3.0
        assert means.shape == (10, 3)
        assert means.min() > 0 and means.max() < 1
    else:  # the function is not in the SavedModel: no other process than this can run it
        assert trusted.code == 2
        assert "Could not find callback" in trusted.err.splitlines()[-1]
