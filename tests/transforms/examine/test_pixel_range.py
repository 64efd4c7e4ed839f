"""A model that was trained for pixels in [0, 255] is told from those for [0, 1], on real photos."""

from __future__ import annotations

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import model_forms
from transforms import engines
from transforms.engines import EngineName
from transforms.engines.first_ops import InputScale
from transforms.examine.pixel_range import SeenRange, bright_enough, see_range
from transforms.images.decode import decode_image
from transforms.images.resize import to_float
from transforms.images.spec import ImageSpec
from transforms.models import builtin
from transforms.models.source import UNIT_RANGE, ModelSource

SIZE = 16
ENGINES: list[EngineName] = ["tensorflow", "openvino"]


@pytest.fixture(scope="module")
def images(photos: list[pathlib.Path]) -> np.ndarray:
    spec = ImageSpec(SIZE, SIZE)
    pixels = [decode_image(path.read_bytes(), spec).pixels for path in photos[:4]]
    return np.stack([to_float(p) if p.dtype == np.uint8 else p for p in pixels])


def see(path: pathlib.Path | str, images: np.ndarray, name: EngineName = "tensorflow") -> SeenRange:
    source = ModelSource(str(path))
    engine = engines.load(source, name)
    return see_range(engine, images, source, engine.first_ops(*images.shape[1:3]))


def classifier(*first: keras.layers.Layer, ends: str | None = "softmax") -> keras.Model:
    """A classifier with biases, as training makes them: of the size of what its layers see."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), *first, *layers])
    model.add(keras.layers.Dense(5, ends))
    random = np.random.default_rng(1)
    weights = [w + (w.ndim == 1) * random.normal(0, 0.5, w.shape) for w in model.get_weights()]
    model.set_weights(weights)
    return model


def rescaling(scale: float, offset: float = 0.0) -> keras.layers.Layer:
    return keras.layers.Rescaling(scale, offset)


SAVES = {
    ".keras": lambda model, path: model.save(path),
    "-exported": lambda model, path: model.export(path, verbose=False),
    "-saved": lambda model, path: tf.saved_model.save(model, path),
}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("way", SAVES)
def test_a_classifier_with_a_rescaling_layer_is_seen_however_it_was_saved(
    tmp_path, images, way, name
):
    SAVES[way](classifier(rescaling(1 / 255)), f"{tmp_path}/m{way}")
    seen = see(f"{tmp_path}/m{way}", images, name)
    assert seen.unit < 0.1 < seen.byte
    assert seen.first_ops is not None
    assert seen.first_ops.scale == pytest.approx(1 / 255)
    is_doubtful, told = seen.told(UNIT_RANGE)
    assert is_doubtful and f"{seen.unit:.2g} of their length" in str(told)
    assert f"{seen.byte:.2g} for [0, 255]" in str(told) and "value_range='0,255'" in str(told)
    assert not seen.told((0.0, 255.0))[0]


@pytest.mark.parametrize("ends", ["softmax", "sigmoid", None])
@pytest.mark.parametrize(
    ("first", "is_for_bytes"),
    [
        ([rescaling(1 / 127.5, -1.0)], True),
        ([keras.layers.Normalization(mean=[124.0, 116.0, 104.0], variance=[1.0] * 3)], True),
        ([keras.layers.Normalization(mean=[0.5] * 3, variance=[0.05] * 3)], False),
        ([rescaling(2.0, -1.0)], False),
        ([rescaling(255.0), rescaling(1 / 255)], False),
        ([], False),
    ],
)
def test_models_for_other_ranges_are_told_apart(tmp_path, images, first, is_for_bytes, ends):
    classifier(*first, ends=ends).save(tmp_path / "m.keras")
    assert see(tmp_path / "m.keras", images).is_for_bytes is is_for_bytes


@pytest.mark.parametrize("name", ENGINES)
def test_the_builtin_model_is_for_0_to_1(photos, name):
    spec = ImageSpec(96, 96)
    pixels = [decode_image(path.read_bytes(), spec).pixels for path in photos[:4]]
    for task in ("feature_vector", "classification"):
        source = ModelSource(builtin.NAME, task=task)
        engine = engines.load(source, name)
        seen = see_range(engine, np.stack(pixels), source, engine.first_ops(96, 96))
        assert seen.unit > 0.3 and not seen.is_for_bytes


@pytest.mark.parametrize(
    "name", ["tf.Module, callable", "signatures only", "TF1 Hub module", "Keras 3 export()"]
)
def test_no_alarm_for_models_that_keep_the_api(tmp_path, images, name):
    form = model_forms.FORMS[name](tmp_path / "m")
    larger = np.kron(images, np.ones((1, 2, 2, 1), np.float32))
    assert not see(form.model, larger).is_for_bytes


def test_images_that_are_alike_to_a_sure_classifier_are_no_alarm():
    """Four photos of one class, of which a softmax is certain, in whichever range they are."""
    sure = np.array([[1 - 3e-7, 2e-7, 1e-7]] * 4)

    def answer(images: np.ndarray) -> np.ndarray:
        if not images.any():
            return np.array([[0.2, 0.5, 0.3]] * len(images))
        return sure[: len(images)]

    seen = see_range(answer, np.ones((4, 2, 2, 3), np.float32), ModelSource())
    assert not seen.is_for_bytes


def test_a_model_that_answers_the_same_to_all_is_told(images):
    seen = see_range(lambda batch: np.ones((len(batch), 3)), images, ModelSource())
    assert seen.told(UNIT_RANGE)[0]
    assert "different images give the same vector" in str(seen.told(UNIT_RANGE)[1])


def test_overflow_for_0_to_255_is_no_alarm(images):
    def half(batch: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return (batch.mean((1, 2)).astype(np.float16) * np.float16(60000)).astype(np.float32)

    assert not see_range(half, images, ModelSource()).is_for_bytes


def test_dark_images_do_not_tell():
    images = np.stack([np.full((2, 2, 3), level, np.float32) for level in (0, 0.01, 0.3)])
    assert len(bright_enough(images)) == 1


def test_a_scale_is_for_bytes_by_its_size_or_its_mean():
    assert InputScale(1.0, -116.0).is_for_bytes and InputScale(0.017, -2.0).is_for_bytes
    assert not InputScale().is_for_bytes and not InputScale(2.0, -1.0).is_for_bytes
