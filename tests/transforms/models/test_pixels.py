"""What pixels a model gets: its range and its layout, on each engine and for both pixel types."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from transforms import engines
from transforms.errors import Parameter, UserError
from transforms.images.resize import to_float
from transforms.models import loading
from transforms.models.source import ModelSource

SIZE = 6
BYTES = np.random.default_rng(4).integers(0, 256, (9, SIZE, SIZE, 3), np.uint8)
ENGINES = ["tensorflow", "openvino"]


def save(directory: pathlib.Path, shape: list[int | None], answer=None, dtype=tf.float32) -> str:
    """Saves a model that answers its input, flattened, or `answer` of it."""

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec(shape, dtype)])
        def __call__(self, images):
            if answer is not None:
                return answer(images)
            return tf.reshape(tf.cast(images, tf.float32), [tf.shape(images)[0], -1])

    tf.saved_model.save(Model(), str(directory))
    return str(directory)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("echo") / "m", [None, SIZE, SIZE, 3])


@pytest.fixture(scope="module")
def echo_nchw(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("nchw") / "m", [None, 3, None, None])


@pytest.mark.parametrize("name", ENGINES)
def test_in_0_to_255_a_uint8_is_what_it_was_and_a_float_255_times_as_much(echo, name):
    engine = engines.load(ModelSource(echo, value_range=(0.0, 255.0)), name)
    np.testing.assert_array_equal(engine(BYTES), BYTES.reshape(9, -1).astype(np.float32))
    floats = np.random.default_rng(5).random((9, SIZE, SIZE, 3), np.float32)
    np.testing.assert_array_equal(engine(floats), (floats * np.float32(255)).reshape(9, -1))


@pytest.mark.parametrize("name", ENGINES)
def test_in_minus_1_to_1_both_pixel_types_are_twice_the_float_less_one(echo, name):
    engine = engines.load(ModelSource(echo, value_range=(-1.0, 1.0)), name)
    expected = (to_float(BYTES) * np.float32(2) - np.float32(1)).reshape(9, -1)
    for images in (BYTES, to_float(BYTES)):
        np.testing.assert_array_equal(engine(images), expected)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("value_range", [(0.0, 1.0), (0.0, 255.0)])
def test_an_nchw_model_gets_its_channels_first(echo_nchw, name, value_range):
    source = ModelSource(echo_nchw, layout="NCHW", value_range=value_range)
    engine = engines.load(source, name)
    assert (engine.model.height, engine.model.width) == (None, None)
    images = BYTES[:, :4]  # not square, so that sides cannot be taken for each other
    pixels = images.astype(np.float32) if value_range[1] == 255 else to_float(images)
    expected = pixels.transpose(0, 3, 1, 2).reshape(9, -1)
    np.testing.assert_array_equal(engine(images), expected)


def test_an_nchw_models_feature_map_is_pooled_over_its_sides(tmp_path):
    path = save(tmp_path / "m", [None, 3, SIZE, 4], lambda images: images)
    source = ModelSource(path, layout="NCHW", pool="mean")
    images = to_float(BYTES[:, :, :4])
    np.testing.assert_allclose(engines.load(source)(images), images.mean((1, 2)), atol=1e-6)
    model = loading.load_model(source)
    assert (model.height, model.width) == (SIZE, 4)


def mistake(source: ModelSource) -> UserError:
    with pytest.raises(UserError) as info:
        loading.load_model(source)
    return info.value


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ([None, 3, None, None], "takes [B, 3, H, W] (NCHW), images are [B, H, W, 3]"),
        ([None, 3, 224, 224], "takes [B, 3, 224, 224] (NCHW), images are [B, H, W, 3]"),
        ([None, 224, 224, 1], "takes [B, 224, 224, 1]; the last dimension must be 3"),
    ],
)
def test_another_layout_is_told_with_what_helps(tmp_path, shape, told):
    path = save(tmp_path / "m", shape, lambda images: tf.reduce_mean(images, [2, 3]))
    error = mistake(ModelSource(path))
    assert str(error.message).startswith(told)
    assert (Parameter("layout", "NCHW") in error.pieces) == (shape[1] == 3)


def test_a_range_or_a_layout_that_does_not_fit_is_told_by_its_name(tmp_path, echo):
    assert mistake(ModelSource(echo, layout="NCHW")).subject == Parameter("layout", "NCHW")
    integers = save(tmp_path / "uint8", [None, SIZE, SIZE, 3], dtype=tf.uint8)
    error = mistake(ModelSource(integers, value_range=(0.0, 255.0)))
    assert error.subject == Parameter("value_range", "0,255")
    assert "integers, which have one range" in str(error)
    encoded = save(tmp_path / "text", [None], lambda text: tf.zeros([1, 2]), tf.string)
    error = mistake(ModelSource(encoded, value_range=(-1.0, 1.0)))
    assert str(error).startswith("value_range -1,1: ")
    assert "decodes the images itself" in str(error)
