"""What can be fine-tuned is loaded with its variables and losses; the rest is refused in a line."""

from __future__ import annotations

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.helpers import model_forms
from tests.helpers.tiny_model import save_tiny_model
from transforms.errors import UserError
from transforms.models import loading
from transforms.models.source import ModelSource
from transforms.models.trainable import TrainableModel, load_trainable

SIZE = model_forms.SIZE


def images(count: int = 3, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).random((count, size, size, 3), np.float32)


def trained_once(model: TrainableModel, batch: np.ndarray) -> None:
    """One step towards smaller vectors: what every trainable model must allow."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model.call(batch, True)))
        for penalty in model.regularization_losses:
            loss += penalty()
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        if gradient is not None:
            variable.assign_sub(1e-3 * gradient)


def keras_file(library, path: pathlib.Path) -> ModelSource:
    """A model with batch normalisation, dropout and a regularised kernel."""
    layers = library.layers
    regularizer = library.regularizers.L2(0.01)
    model = library.Sequential(
        [
            library.Input((SIZE, SIZE, 3)),
            layers.Conv2D(4, 3, kernel_regularizer=regularizer),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.5),
        ]
    )
    model.save(path)
    return ModelSource(str(path), trusted=library is tf_keras)


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_a_keras_file(library, tmp_path):
    source = keras_file(library, tmp_path / "model.keras")
    model = load_trainable(source)
    assert (model.height, model.width, model.knows_training) == (SIZE, SIZE, True)
    assert all(isinstance(variable, tf.Variable) for variable in model.variables)
    shapes = [tuple(variable.shape) for variable in model.trainable_variables]
    assert shapes == [(3, 3, 3, 4), (4,), (4,), (4,)]
    [penalty] = model.regularization_losses
    kernel = model.trainable_variables[0].numpy()
    assert float(penalty()) == pytest.approx(0.01 * (kernel**2).sum(), rel=1e-5)

    batch = images()
    before = loading.load_model(source).call(batch).numpy()
    np.testing.assert_allclose(model.call(batch, False), before, atol=1e-6)
    was = [variable.numpy() for variable in model.variables]
    trained_once(model, batch)
    changed = [(now.numpy() != then).any() for now, then in zip(model.variables, was, strict=True)]
    assert sum(changed) >= 5  # kernel, scale, offset and both moving averages
    assert np.abs(model.call(batch, False) - before).max() > 1e-4


def test_a_reusable_savedmodel(tmp_path):
    """`training` is handed on, as is a hyper-parameter; its penalty is a loss."""
    model_forms.reusable(tmp_path / "model")
    source = ModelSource(str(tmp_path / "model"))
    model = load_trainable(source)
    assert len(model.variables) == 2
    [dense] = model.trainable_variables
    [penalty] = model.regularization_losses
    assert float(penalty()) == pytest.approx(1e-4 * (dense.numpy() ** 2).sum() / 2, rel=1e-5)
    batch = images()
    vectors = model.call(batch, False).numpy()
    assert ((model.call(batch, True).numpy() == 0) & (vectors != 0)).any()  # dropped out
    doubled = load_trainable(dataclasses.replace(source, arguments=(("gain", 2.0),)))
    np.testing.assert_allclose(doubled.call(batch, False), 2 * vectors, rtol=1e-5)
    trained_once(model, batch)
    assert np.abs(model.call(batch, False) - vectors).max() > 0


def test_range_layout_and_pooling_are_those_of_the_source(tmp_path):
    class Map(tf.train.Checkpoint):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(np.eye(3, dtype=np.float32))
            self.variables = self.trainable_variables = [self.weights]

        @tf.function(input_signature=[tf.TensorSpec([None, 3, 8, 8], tf.float32)])
        def __call__(self, images):
            return tf.einsum("bchw,cn->bnhw", images, self.weights)

    tf.saved_model.save(Map(), str(tmp_path / "model"))
    source = ModelSource(
        str(tmp_path / "model"), layout="NCHW", pool="mean", value_range=(-1.0, 1.0)
    )
    model = load_trainable(source)
    batch = images(size=8)
    assert (model.height, model.width, model.knows_training) == (8, 8, False)
    np.testing.assert_allclose(
        model.call(batch, True), 2 * batch.mean((1, 2)) - 1, rtol=1e-4, atol=1e-5
    )
    trained_once(model, batch)


def test_a_savedmodel_of_keras_2(tmp_path):
    form = model_forms.FORMS["tf_keras save(save_format='tf')"](tmp_path / "model")
    model = load_trainable(ModelSource(str(form.model)))
    batch = images()
    np.testing.assert_allclose(model.call(batch, False), form.direct(batch), atol=1e-5)
    before = model.trainable_variables[0].numpy()
    trained_once(model, batch)
    assert (model.trainable_variables[0].numpy() != before).any()


def test_the_built_in_model():
    model = load_trainable(ModelSource())
    assert len(model.trainable_variables) == 98
    assert model.call(images(1, 64), True).shape == (1, 1280)


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("signatures only", "it is called by its signature serving_default"),
        ("Keras 3 export()", "it is called by its signature serving_default"),
        ("TF1 Hub module", "it is called by its signature image_feature_vector"),
        ("TF1 SavedModel, encoded images", "it decodes the images itself"),
        ("tf.Module, callable", "it has no trainable_variables"),
        ("tf.Module, batch of 4", "it takes batches of 4 images alone"),
    ],
)
def test_what_is_not_fine_tunable_is_told_in_one_line(form, why, tmp_path):
    made = model_forms.FORMS[form](tmp_path / "model")
    with pytest.raises(UserError) as told:
        load_trainable(ModelSource(str(made.model)))
    assert str(told.value).startswith(f"model {made.model}: is not fine-tunable: {why}")
    assert str(told.value).endswith("; train a head on its vectors instead")
    assert "\n" not in str(told.value)


def test_variables_that_decide_nothing_are_told(tmp_path):
    class Idle(tf.train.Checkpoint):
        def __init__(self):
            super().__init__()
            self.trainable_variables = [tf.Variable(1.0)]

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def __call__(self, images):
            return tf.reduce_mean(images, [1, 2])

    tf.saved_model.save(Idle(), str(tmp_path / "model"))
    with pytest.raises(UserError, match="its variables do not reach its vectors"):
        load_trainable(ModelSource(str(tmp_path / "model")))


def test_a_model_that_is_not_trusted_is_not_loaded(tmp_path):
    class Reading(tf.train.Checkpoint):
        def __init__(self):
            super().__init__()
            self.trainable_variables = [tf.Variable(1.0)]

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def __call__(self, images):
            read = tf.strings.length(tf.io.read_file("/etc/hostname"))
            return tf.reduce_mean(images, [1, 2]) + tf.cast(read, tf.float32)

    tf.saved_model.save(Reading(), str(tmp_path / "model"))
    with pytest.raises(UserError, match="ReadFile"):
        load_trainable(ModelSource(str(tmp_path / "model")))


def test_the_tiny_model_has_nothing_to_train(tmp_path):
    save_tiny_model(tmp_path / "model")
    with pytest.raises(UserError, match="is not fine-tunable"):
        load_trainable(ModelSource(str(tmp_path / "model")))
