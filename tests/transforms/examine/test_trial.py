"""A model that would give other vectors another time is seen before the job begins."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from transforms import engines
from transforms.examine import trial
from transforms.examine.checks import Check
from transforms.models.source import ModelSource

SIZE = 8


def save(directory: pathlib.Path, answer) -> ModelSource:
    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)])
        def __call__(self, images):
            return tf.reshape(answer(images), [-1, SIZE * SIZE * 3])

    tf.saved_model.save(Model(), str(directory))
    return ModelSource(str(directory))


def look(source: ModelSource, count: int = 4, batch_size: int = 32) -> dict[str, Check]:
    images = np.random.default_rng(0).random((count, SIZE, SIZE, 3), np.float32)
    engine = engines.load(source)
    checks = trial.try_images(engine, images, (SIZE, SIZE), source, "float32", batch_size)
    return {check.name: check for check in checks}


def flipped(images):
    return tf.image.random_flip_left_right(images)


def noisy(images):
    return images + tf.random.uniform(tf.shape(images))


def noisy_from_a_seed(images):
    """The same in each call, but another for each place in the batch."""
    return images + tf.random.stateless_uniform(tf.shape(images), [1, 2])


def normalised_by_batch(images):
    mean, variance = tf.nn.moments(images, [0, 1, 2])
    return (images - mean) / tf.sqrt(variance)


def plain(images):
    return images - 0.2


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize(
    ("answer", "failing"),
    [
        (flipped, "deterministic"),
        (noisy, "deterministic"),
        (noisy_from_a_seed, "batch-independent"),
        (normalised_by_batch, "batch-independent"),
    ],
)
def test_what_is_random_or_depends_on_the_batch_is_named(tmp_path, answer, failing, count):
    tf.random.set_seed(1)
    found = look(save(tmp_path / "m", answer), count)
    assert [check.name for check in found.values() if check.status == "fail"] == [failing]
    assert "length" in str(found[failing].seen)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_good_model_passes(tmp_path, batch_size):
    found = look(save(tmp_path / "m", plain), batch_size=batch_size)
    assert [(name, check.status) for name, check in found.items()] == [
        ("deterministic", "pass"),
        ("batch-independent", "pass"),
        ("value range", "pass"),
    ]


def test_a_slow_model_is_asked_little(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "_HEAVY_SECONDS", 0.0)
    tf.random.set_seed(1)
    good, bad = save(tmp_path / "good", plain), save(tmp_path / "bad", noisy)
    assert {check.status for check in look(good).values()} == {"pass"}
    assert look(bad)["deterministic"].status == "fail"
    assert "on 2 images" in str(look(bad)["deterministic"].seen)


def test_an_image_on_which_the_model_fails_is_left_out(tmp_path):
    def picky(images):
        first = tf.reduce_max(images[:, 0, 0])
        with tf.control_dependencies([tf.debugging.Assert(first < 0.9, ["too bright"])]):
            return tf.identity(images)

    source = save(tmp_path / "m", picky)
    images = np.random.default_rng(0).random((4, SIZE, SIZE, 3), np.float32) * 0.8
    images[1] = 1.0
    engine = engines.load(source)
    arguments = (engine, images, (SIZE, SIZE), source, "float32", 32)
    assert [check.status for check in trial.try_images(*arguments)][:2] == ["pass", "pass"]
    images[:] = 1.0
    assert trial.try_images(*arguments) == ()
