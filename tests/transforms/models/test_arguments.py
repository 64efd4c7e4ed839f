"""A model of several inputs says what it takes, and which one is missing."""

from __future__ import annotations

import pathlib

import pytest
import tensorflow as tf

from transforms.errors import UserError
from transforms.models import loading
from transforms.models.source import ModelSource

IMAGES = tf.TensorSpec([None, 8, 8, 3], tf.float32, "images")


def save(directory: pathlib.Path, other: tf.TensorSpec, is_callable: bool) -> pathlib.Path:
    """Saves a model of images and another input, which it adds to the mean colour."""

    class Model(tf.Module):
        @tf.function(input_signature=[IMAGES, other])
        def __call__(self, images, other):
            return tf.reduce_mean(images, [1, 2]) + other

    model = Model()
    if is_callable:
        tf.saved_model.save(model, str(directory))
    else:
        signature = tf.function(
            lambda images, other: {"vectors": model(images, other)},
            input_signature=[IMAGES, other],
        )
        tf.saved_model.save(tf.Module(), str(directory), signatures=signature)
    return directory


@pytest.mark.parametrize("is_callable", [True, False])
@pytest.mark.parametrize(
    ("shape", "told", "remedy"),
    [
        ([None, 3], "[B, 3]", "export a function of the images alone"),
        ([], "[]", "give it with arguments"),
    ],
)
def test_the_missing_input_is_named_with_what_helps(tmp_path, is_callable, shape, told, remedy):
    path = save(tmp_path / "m", tf.TensorSpec(shape, tf.float32, "other"), is_callable)
    with pytest.raises(UserError) as info:
        loading.load_model(ModelSource(str(path)))
    message = str(info.value)
    assert f"takes images float32 [B, 8, 8, 3], other float32 {told}" in message
    assert f"only images are given, other is missing: {remedy}" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("is_callable", [True, False])
def test_a_number_can_be_given(tmp_path, is_callable):
    path = save(tmp_path / "m", tf.TensorSpec([], tf.float32, "other"), is_callable)
    loaded = loading.load_model(ModelSource(str(path), arguments=(("other", 2.0),)))
    assert loaded.call(tf.zeros([1, 8, 8, 3])).numpy().tolist() == [[2.0, 2.0, 2.0]]
