"""A `.keras` file that cannot be used says in one line what it lacks."""

from __future__ import annotations

import pathlib

import keras
import numpy as np
import pytest
import tf_keras

from transforms.errors import UserError
from transforms.models import loading
from transforms.models.source import ModelSource

IMAGE = (8, 8, 3)


class Mean(keras.layers.Layer):
    """A layer that only this test knows."""

    def call(self, images):
        return keras.ops.mean(images, (1, 2))


class Elsewhere(Mean):
    """As if it were defined in the program that trained the model."""


Elsewhere.__module__ = "my_training"


@keras.saving.register_keras_serializable("tests")
class Registered(Mean):
    """The same, by a name that is registered here."""


def mistake(path: pathlib.Path, trusted: bool = False) -> str:
    with pytest.raises(UserError) as info:
        loading.load_model(ModelSource(str(path), trusted=trusted))
    message = str(info.value)
    assert message.startswith(f"model {path}: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"model {path}: ")


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_a_sequential_that_was_never_built_asks_for_its_input(tmp_path, library):
    layers = [library.layers.Conv2D(4, 3), library.layers.GlobalAveragePooling2D()]
    library.Sequential(layers).save(tmp_path / "m.keras")
    message = mistake(tmp_path / "m.keras", trusted=library is tf_keras)
    assert message.startswith("was saved before it knew the shape of its input")
    assert "keras.Input((H, W, 3))" in message and "model.export()" in message


@pytest.mark.parametrize(("layer", "trusted"), [(Elsewhere, False), (Elsewhere, True)])
def test_a_class_that_is_not_here_is_named_with_what_helps(tmp_path, layer, trusted):
    keras.Sequential([keras.Input(IMAGE), layer()]).save(tmp_path / "m.keras")
    name = layer.__name__
    lacks = f"needs the Python class {name}, which a .keras file does not hold; save it with "
    assert mistake(tmp_path / "m.keras", trusted).startswith(lacks + "model.export()")


def test_a_class_that_is_here_is_used_if_it_is_trusted(tmp_path):
    keras.Sequential([keras.Input(IMAGE), Registered()]).save(tmp_path / "m.keras")
    loaded = loading.load_model(ModelSource(str(tmp_path / "m.keras"), trusted=True))
    images = np.random.default_rng(0).random((2, *IMAGE), np.float32)
    np.testing.assert_allclose(loaded.call(images), images.mean((1, 2)), atol=1e-6)


def test_a_flattened_input_is_told_as_what_it_is(tmp_path):
    keras.Sequential([keras.Input((192,)), keras.layers.Dense(5)]).save(tmp_path / "m.keras")
    message = mistake(tmp_path / "m.keras")
    assert message.startswith("takes [B, 192]; images are [B, H, W, 3]")


def test_of_two_inputs_the_missing_one_is_named(tmp_path):
    photo, place = keras.Input(IMAGE, name="photo"), keras.Input((2,), name="place")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(photo), place])
    model = keras.Model([photo, place], joined)
    model.save(tmp_path / "m.keras")
    model.export(str(tmp_path / "m"), verbose=False)
    for path in (tmp_path / "m.keras", tmp_path / "m"):
        message = mistake(path)
        assert "photo float32 [B, 8, 8, 3]" in message and "place float32 [B, 2]" in message
        assert "only images are given, place is missing" in message
        assert message.endswith("export a function of the images alone")
