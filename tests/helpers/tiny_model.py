"""A small real model."""

from __future__ import annotations

import pathlib

TINY_SIZE = 16
TINY_WIDTH = 8


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
