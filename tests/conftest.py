"""What the tests share: real photos, a small real model, and the command line."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import PIL.Image
import pytest

from examples.photos import sample_photos
from pipeline import run
from transforms.machine.tensorflow_import import import_tensorflow

import_tensorflow()

ROOT = pathlib.Path(__file__).parent.parent

TINY_SIZE = 16
TINY_WIDTH = 8


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def photos() -> list[pathlib.Path]:
    """The sample photos of scikit-image and scikit-learn."""
    return sample_photos()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A SavedModel with random weights: float32 [B, 16, 16, 3] to [B, 8]; fast."""
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def save_tiny_model(
    directory: pathlib.Path, seed: int = 0, width: int = TINY_WIDTH
) -> pathlib.Path:
    """Saves a callable SavedModel: a convolution, a mean and a dense layer."""
    import tensorflow as tf

    class Tiny(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(tf.random.stateless_normal([3, 3, 3, 12], [seed, 1]))
            self.dense = tf.Variable(tf.random.stateless_normal([12, width], [seed, 2]))

        @tf.function(input_signature=[tf.TensorSpec([None, TINY_SIZE, TINY_SIZE, 3], tf.float32)])
        def __call__(self, images):
            hidden = tf.nn.relu(tf.nn.conv2d(images, self.kernel, 2, "SAME"))
            return tf.reduce_mean(hidden, [1, 2]) @ self.dense

    tf.saved_model.save(Tiny(), str(directory))
    return directory


def write_random_images(directory: pathlib.Path, count: int, size: int = 20) -> list[pathlib.Path]:
    """Writes small PNGs, each with other random pixels; 1,000 a subdirectory."""
    random = np.random.default_rng(count)
    paths = []
    for number in range(count):
        path = directory / f"{number // 1000:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(path, compress_level=0)
        paths.append(path)
    return paths


@pytest.fixture
def run_here(capfd: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Runs the command line in this process, which has TensorFlow loaded already."""

    def call(*arguments: object) -> Finished:
        capfd.readouterr()
        code = run.main([str(argument) for argument in arguments])
        return Finished(code, *capfd.readouterr())

    return call


def run_command(*arguments: object, **popen: object) -> Finished:
    """Runs `python -m pipeline.run` as a person would, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.run", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        **popen,
    )
    return Finished(done.returncode, done.stdout, done.stderr)
