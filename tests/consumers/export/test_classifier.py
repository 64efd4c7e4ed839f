"""The exported classifier: what every loader of the image API gets of it."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from consumers.export.classifier import save_classifier, save_extractor
from consumers.export.live import open_extractor
from consumers.head import Dense, Head
from pipeline.options.door import read_options
from pipeline.options.model import stage_model
from tests.helpers import model_forms
from tests.helpers.classifiers import (
    DESCRIPTION,
    LABELS,
    SmallClassifier,
    noise,
    random_head,
    save_small_classifier,
)
from transforms.errors import UserError
from transforms.models import builtin
from transforms.models.described import ModelDescription, read_description
from transforms.models.loading import load_model
from transforms.models.source import ModelSource


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> SmallClassifier:
    return save_small_classifier(tmp_path_factory.mktemp("exported"))


def keras_layer(classifier: SmallClassifier, **arguments: float) -> tuple[tf_keras.Model, object]:
    layer = hub.KerasLayer(classifier.path, trainable=True, arguments=arguments)
    images = tf_keras.Input((model_forms.SIZE, model_forms.SIZE, 3))
    return tf_keras.Model(images, layer(images)), layer


def test_all_loaders_give_the_logits_of_the_extractor_and_the_head(classifier):
    images = noise(5)
    expected = classifier.expected(images)
    in_keras, _ = keras_layer(classifier, dropout_rate=0.5)
    signature = tf.saved_model.load(classifier.path).signatures["serving_default"]
    for answer in (
        hub.load(classifier.path)(images),
        tf.saved_model.load(classifier.path)(images, training=False),
        in_keras(images, training=False),
        signature(images=tf.constant(images))["logits"],
        load_model(ModelSource(name=classifier.path)).call(images),
    ):
        np.testing.assert_allclose(answer.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert list(signature.structured_outputs) == ["logits"]


def test_training_drops_and_inference_is_deterministic(classifier):
    model, images = hub.load(classifier.path), noise(4)
    assert np.array_equal(model(images), model(images, training=False))
    assert np.array_equal(model(images, training=False), model(images, training=False))
    assert not np.allclose(model(images, training=True), model(images, training=True))
    assert np.array_equal(model(images, dropout_rate=0.9), model(images))


def test_dropout_rate_is_a_hyper_parameter_with_the_heads_rate_as_default(tmp_path):
    """On an extractor without dropout that answers 64 ones, with a head that takes their mean."""
    width, count = 64, 2000

    class Ones(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 1, 1, 3], tf.float32)])
        def __call__(self, images):
            return tf.ones([tf.shape(images)[0], width])

    tf.saved_model.save(Ones(), str(tmp_path / "extractor"))
    source = ModelSource(name=str(tmp_path / "extractor"))
    mean = Dense(np.full((width, 3), 1 / width, np.float32), np.zeros(3, np.float32))
    save_classifier(str(tmp_path / "out"), source, Head((mean,), dropout_rate=0.4), DESCRIPTION)
    model, images = hub.load(str(tmp_path / "out")), noise(count, (1, 1))
    np.testing.assert_allclose(model(images), 1.0, rtol=1e-6)
    np.testing.assert_allclose(model(images, training=True, dropout_rate=0.0), 1.0, rtol=1e-6)
    for given, rate in (({}, 0.4), ({"dropout_rate": 0.4}, 0.4), ({"dropout_rate": 0.8}, 0.8)):
        deviation = np.std(model(images, training=True, **given).numpy()[:, 0])
        assert deviation == pytest.approx((rate / (1 - rate) / width) ** 0.5, rel=0.15)


def test_variables_and_losses_are_the_extractors_and_the_heads(classifier):
    model = hub.load(classifier.path)
    assert (len(model.variables), len(model.trainable_variables)) == (2 + 4, 1 + 4)
    own, *of_head = [float(loss()) for loss in model.regularization_losses]
    extractor = hub.load(classifier.source.name)
    assert own == pytest.approx(float(extractor.regularization_losses[0]()))
    squares = [0.01 * np.square(layer.kernel).sum() for layer in classifier.head.layers]
    assert of_head == pytest.approx(squares, rel=1e-5)


def test_a_keras_layer_trains_extractor_and_head(classifier):
    model, layer = keras_layer(classifier, dropout_rate=0.1)
    assert len(layer.trainable_weights) == 5 and len(layer.losses) == 3
    before = [weight.numpy() for weight in layer.trainable_weights]
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.SGD(0.1), loss)
    model.fit(noise(6), np.array([0, 1, 2, 0, 1, 2]), verbose=0)
    after = [weight.numpy() for weight in layer.trainable_weights]
    assert all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_l1_and_l2_add_up_in_one_loss_a_kernel(tmp_path):
    found = save_small_classifier(tmp_path, l1=0.5, l2=0.25)
    model = hub.load(found.path)
    _, *of_head = [float(loss()) for loss in model.regularization_losses]
    kernels = [layer.kernel for layer in found.head.layers]
    expected = [0.5 * np.abs(k).sum() + 0.25 * np.square(k).sum() for k in kernels]
    assert of_head == pytest.approx(expected, rel=1e-5)


FORMS = (
    "tf.Module with training",
    "Reusable SavedModel, --model_args",
    "tf.Module, batch of 4",
    "tf.Module, uint8 input",
    "tf.Module, [B, H, W, C] --pool mean",
    "tf.Module, dict --output_key",
    "signatures only, --signature",
    "tf_keras .keras",
    "Keras 3 export(), dict --output_key",
    "Keras 3 .keras",
    "TF1 Hub module, --tags",
)
# Those whose publisher lists what may be trained; of the others the head alone is.
TRAINABLE = {"Reusable SavedModel, --model_args", "tf_keras .keras", "Keras 3 .keras"}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_extractor_becomes_a_reusable_one(tmp_path: pathlib.Path, name: str) -> None:
    form = model_forms.FORMS[name](tmp_path / "m")
    words = ["--input", "i", "--output", "o", "--model", str(form.model), *form.flags]
    source = stage_model(read_options(words).model)
    extractor, images = open_extractor(source), noise(5, form.size)
    taken = tf.image.convert_image_dtype(images, form.takes, saturate=True)
    if form.batch_size:
        parts = [form.direct(tf.repeat(taken[at : at + 1], form.batch_size, 0)) for at in range(5)]
        vectors = np.stack([np.array(part)[0] for part in parts])
    else:
        vectors = np.array(form.direct(taken))
    head = random_head(vectors.shape[1], dropout_rate=0.2)
    save_classifier(str(tmp_path / "out"), source, head, DESCRIPTION)
    model = hub.load(str(tmp_path / "out"))
    np.testing.assert_allclose(model(images), head.logits(vectors), rtol=1e-5, atol=1e-5)
    assert len(model.variables) == len(extractor.variables) + 2
    assert (len(model.trainable_variables) > 2) is (name in TRAINABLE)
    assert not np.allclose(model(images, training=True), model(images))
    assert read_description(ModelSource(name=str(tmp_path / "out"))) == DESCRIPTION


@pytest.mark.parametrize(("value_range", "layout"), [((0.0, 255.0), "NHWC"), ((-1.0, 1.0), "NCHW")])
def test_range_and_layout_of_the_extractor_are_inside(tmp_path, value_range, layout):
    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, None], tf.float32)])
        def __call__(self, images):
            return tf.reduce_mean(images, [1, 2] if layout == "NHWC" else [2, 3])

    tf.saved_model.save(Model(), str(tmp_path / "m"))
    source = ModelSource(name=str(tmp_path / "m"), value_range=value_range, layout=layout)
    head = random_head(3)
    save_classifier(str(tmp_path / "out"), source, head, DESCRIPTION)
    images = noise(4, (9, 7))
    low, high = value_range
    vectors = (images * (high - low) + low).mean((1, 2), dtype=np.float64)
    np.testing.assert_allclose(
        hub.load(str(tmp_path / "out"))(images), head.logits(vectors), rtol=1e-5, atol=1e-4
    )


def test_the_builtin_becomes_a_classifier_of_any_batch_and_any_size(tmp_path):
    source = ModelSource()
    head = random_head(1280)
    description = dataclasses.replace(DESCRIPTION, image_size=builtin.IMAGE_SIZE)
    save_classifier(str(tmp_path / "out"), source, head, description)
    model, extractor = hub.load(str(tmp_path / "out")), load_model(source)
    for images in (noise(1, (64, 96)), noise(3, (96, 64))):
        expected = head.logits(extractor.call(images).numpy())
        np.testing.assert_allclose(model(images), expected, rtol=1e-5, atol=1e-5)
    assert len(model.trainable_variables) == len(model.variables) == 98 + 2


def test_what_training_has_changed_is_what_is_saved(tmp_path, classifier):
    extractor = open_extractor(classifier.source)
    images = noise(3)
    before = extractor.call(images, False).numpy()
    for variable in extractor.trainable_variables:
        variable.assign(2 * variable)
    description = ModelDescription("feature_vector", (), "none", (32, 32), "tests 1.0")
    save_extractor(str(tmp_path / "tuned"), extractor, description)
    save_classifier(str(tmp_path / "out"), extractor, classifier.head, DESCRIPTION)
    tuned = hub.load(str(tmp_path / "tuned"))
    np.testing.assert_allclose(tuned(images), 2 * before, rtol=1e-5)
    assert (len(tuned.variables), len(tuned.trainable_variables)) == (2, 1)
    assert len(tuned.regularization_losses) == 1
    assert list(tuned.signatures["serving_default"].structured_outputs) == ["feature_vector"]
    assert not np.allclose(tuned(images, training=True), tuned(images))
    np.testing.assert_allclose(
        hub.load(str(tmp_path / "out"))(images), classifier.head.logits(2 * before), rtol=1e-5
    )
    assert read_description(ModelSource(name=str(tmp_path / "tuned"))) == description


def test_losses_of_keras_layers_are_kept(tmp_path):
    import keras

    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(4, kernel_regularizer="l2")])
    model.save(tmp_path / "m.keras")
    source = ModelSource(name=str(tmp_path / "m.keras"))
    save_classifier(str(tmp_path / "out"), source, random_head(4), DESCRIPTION)
    saved = hub.load(str(tmp_path / "out"))
    [loss] = saved.regularization_losses
    assert float(loss()) == pytest.approx(float(model.losses[0]))


def test_a_classifier_on_a_classifier_says_its_own_labels(tmp_path, classifier):
    description = dataclasses.replace(DESCRIPTION, labels=("x", "y"), activation="sigmoid")
    out = str(tmp_path / "out")
    head = random_head(len(LABELS), classes=2)
    save_classifier(out, ModelSource(name=classifier.path), head, description)
    assert read_description(ModelSource(name=out)) == description
    asset = hub.load(out).labels_file.asset_path.numpy().decode()
    assert pathlib.Path(asset).read_text("utf-8") == "x\ny\n"


def test_names_lie_beside_the_model_and_among_its_assets(classifier):
    text = "".join(f"{label}\n" for label in LABELS)
    assert (pathlib.Path(classifier.path) / "labels.txt").read_text("utf-8") == text
    asset = hub.load(classifier.path).labels_file.asset_path.numpy().decode()
    assert pathlib.Path(asset).read_text("utf-8") == text


def refusal(tmp_path: pathlib.Path, source: ModelSource, head: Head) -> str:
    with pytest.raises(UserError) as info:
        save_classifier(str(tmp_path / "out"), source, head, DESCRIPTION)
    assert not (tmp_path / "out").exists()
    return str(info.value)


def test_a_head_for_other_vectors_is_refused(tmp_path, classifier):
    told = refusal(tmp_path, classifier.source, random_head(model_forms.WIDTH + 1))
    assert told == (
        f"model {classifier.source.name}: gives vectors of {model_forms.WIDTH} values, but the "
        f"head is made for {model_forms.WIDTH + 1}"
    )


def test_a_model_that_decodes_images_itself_is_refused(tmp_path):
    form = model_forms.tf1(tmp_path / "m", takes="encoded")
    told = refusal(tmp_path, ModelSource(name=str(form.model)), random_head(model_forms.WIDTH))
    assert "decodes the images itself" in told


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "two\nlines"), ("a", "b", "\udce9")])
def test_names_that_do_not_fit_are_a_mistake_of_the_caller(tmp_path, classifier, labels):
    description = dataclasses.replace(DESCRIPTION, labels=labels)
    with pytest.raises(ValueError, match=r"labels for 3 logits|one line of text"):
        save_classifier(str(tmp_path / "out"), classifier.source, classifier.head, description)
    assert not (tmp_path / "out").exists()
