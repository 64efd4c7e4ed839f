"""A model that fails on one image costs that image, not its batch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import PIL.Image
import tensorflow as tf


def save_picky_model(directory) -> None:
    """Fails on an image that is white all over."""

    class Picky(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32)])
        def __call__(self, images):
            means = tf.reduce_mean(images, [1, 2])
            check = tf.debugging.Assert(tf.reduce_all(means < 0.999), ["blinded by white"])
            with tf.control_dependencies([check]):
                return tf.identity(means)

    tf.saved_model.save(Picky(), str(directory))


def test_one_image_is_an_error_row_and_the_other_31_are_rows(run_here, tmp_path):
    save_picky_model(tmp_path / "model")
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(32):
        pixels = random.integers(0, 200, (16, 16, 3), dtype=np.uint8)
        if number == 13:
            pixels[:] = 255
        PIL.Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    done = run_here("--input", folder, "--output", tmp_path / "out", "--model", tmp_path / "model")
    assert done.code == 0, done.err
    table = pd.read_parquet(tmp_path / "out")
    errors = pd.read_parquet(tmp_path / "out" / "_errors")
    assert len(table) == 31
    for row in table.itertuples():
        pixels = np.asarray(PIL.Image.open(row.uri)).astype(np.float32) / 255
        np.testing.assert_allclose(row.feature_vector, pixels.mean((0, 1)), atol=1e-5)
    [error] = errors.itertuples()
    assert error.uri == str(folder / "13.png")
    assert error.stage == "infer"
    assert "blinded by white" in error.message
