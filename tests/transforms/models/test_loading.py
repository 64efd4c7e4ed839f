"""Published models in all their forms become one callable, or one line that says what is wrong."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests.helpers.tiny_model import TINY_SIZE, save_tiny_model
from transforms.errors import Parameter, UserError
from transforms.models import builtin, loading
from transforms.models.source import ModelSource, Task, files_sha256

Size = tuple[int | None, int | None]


def save_signatures(directory: pathlib.Path, size: Size = (16, 16), **scales: float) -> str:
    """Saves a model that is not callable; a signature answers its scale times the mean colour."""
    import tensorflow as tf

    def signature(scale: float) -> Callable:
        @tf.function(input_signature=[tf.TensorSpec([None, *size, 3], tf.float32, "pictures")])
        def answer(pictures):
            return {"answer": tf.reduce_mean(pictures, [1, 2]) * scale}

        return answer

    signatures = {name: signature(scale) for name, scale in scales.items()}
    tf.saved_model.save(tf.Module(), str(directory), signatures)
    return str(directory)


def save_callable(directory: pathlib.Path, sizes: Sequence[Size]) -> str:
    """Saves a callable model that was traced for images of `sizes`."""
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function
        def __call__(self, images):
            return tf.reduce_mean(images, [1, 2])

    model = Model()
    for size in sizes:
        model.__call__.get_concrete_function(tf.TensorSpec([None, *size, 3], tf.float32))
    tf.saved_model.save(model, str(directory))
    return str(directory)


def save_tf1_hub_module(directory: pathlib.Path, tag_sets: Sequence[Sequence[str]]) -> str:
    """Saves a TF1 Hub module: signatures `default` and `image_feature_vector`, input `images`."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, 16, 16, 3])
        vectors = tf.reduce_mean(images, [1, 2]) @ v1.get_variable("w", initializer=2 * tf.eye(3))
        session.run(v1.global_variables_initializer())
        predict = v1.saved_model.signature_def_utils.predict_signature_def
        signatures = {
            "default": predict({"images": images}, {"default": vectors}),
            "image_feature_vector": predict(
                {"images": images}, {"default": vectors, "block_1": images}
            ),
        }
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(session, tag_sets[0], signatures)
        for tags in tag_sets[1:]:
            builder.add_meta_graph(tags, signatures)
        builder.save()
    return str(directory)


def mistake(name: pathlib.Path | str) -> str:
    """What the user is told instead of getting the model: one line."""
    with pytest.raises(UserError) as info:
        loading.load_model(ModelSource(str(name)))
    message = str(info.value)
    assert info.value.subject == Parameter("model", str(name))
    assert message.startswith(f"model {name}: ")
    assert "\n" not in message
    return message


def random_images(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).random((count, 16, 16, 3), np.float32)


def mean_colours(images: np.ndarray) -> np.ndarray:
    return images.mean((1, 2))


# Which function


def test_a_callable_model_is_called(tiny_model: pathlib.Path) -> None:
    import tensorflow as tf
    import tensorflow_hub as hub

    model = loading.load_model(ModelSource(str(tiny_model)))
    images = tf.constant(random_images())
    np.testing.assert_array_equal(model.call(images), hub.load(str(tiny_model))(images))
    assert (model.height, model.width) == (TINY_SIZE, TINY_SIZE)


@pytest.mark.parametrize("default", [False, True, None, "required"])
def test_a_model_that_can_train_answers_as_in_inference(
    tmp_path: pathlib.Path, default: bool | str | None
) -> None:
    """Whatever `training` is where the caller says nothing."""
    import tensorflow as tf

    def answer(images, training):
        if training:
            images = tf.nn.dropout(images, 0.9)
        return tf.reduce_mean(images, [1, 2])

    class Required(tf.Module):
        @tf.function
        def __call__(self, images, training):
            return answer(images, training)

    class Optional(tf.Module):
        @tf.function
        def __call__(self, images, training=default):
            return answer(images, training)

    module = Required() if default == "required" else Optional()
    for training in (True, False):
        spec = tf.TensorSpec([None, 16, 16, 3], tf.float32)
        module.__call__.get_concrete_function(spec, training=training)
    tf.saved_model.save(module, str(tmp_path / "m"))
    model = loading.load_model(ModelSource(str(tmp_path / "m")))
    images = random_images()
    np.testing.assert_allclose(model.call(tf.constant(images)), mean_colours(images), rtol=1e-5)
    assert (model.height, model.width) == (16, 16)


@pytest.mark.parametrize(
    ("signatures", "scale"),
    [
        ({"serving_default": 2.0}, 2.0),
        ({"serving_default": 2.0, "other": 3.0}, 2.0),
        ({"default": 4.0, "other": 3.0}, 4.0),
        ({"serving_default": 2.0, "default": 4.0}, 2.0),
        ({"image_feature_vector": 5.0}, 5.0),
    ],
)
def test_a_model_that_is_not_callable_answers_by_its_signature(
    tmp_path: pathlib.Path, signatures: dict[str, float], scale: float
) -> None:
    import tensorflow as tf

    model = loading.load_model(ModelSource(save_signatures(tmp_path / "m", **signatures)))
    images = random_images()
    answer = model.call(tf.constant(images))
    np.testing.assert_allclose(answer, scale * mean_colours(images), rtol=1e-5)
    assert (model.height, model.width) == (16, 16)


def test_several_signatures_without_a_default_are_listed(tmp_path: pathlib.Path) -> None:
    name = save_signatures(tmp_path / "m", embed=1.0, classify=2.0)
    message = mistake(name)
    assert "neither callable nor" in message
    assert "choose with signature: classify, embed" in message


def test_a_model_without_any_function_says_so(tmp_path: pathlib.Path) -> None:
    assert "signature: none" in mistake(save_signatures(tmp_path / "m"))


def test_a_signature_with_two_outputs_names_them(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32, "images")])
    def answer(images):
        return {"boxes": images, "scores": tf.reduce_mean(images, [1, 2])}

    tf.saved_model.save(tf.Module(), str(tmp_path / "m"), {"serving_default": answer})
    model = loading.load_model(ModelSource(str(tmp_path / "m")))
    listed = r"with output_key: boxes \[B, 16, 16, 3\], scores \[B, 3\]"
    with pytest.raises(UserError, match=listed) as info:
        model.call(tf.zeros([2, 16, 16, 3]))
    assert info.value.remedy == Parameter("output_key")


def test_a_signature_with_two_inputs_names_them(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    spec = tf.TensorSpec([None, 16, 16, 3], tf.float32)

    @tf.function(input_signature=[spec, spec])
    def answer(left, right):
        return tf.reduce_mean(left - right, [1, 2])

    tf.saved_model.save(tf.Module(), str(tmp_path / "m"), {"serving_default": answer})
    message = mistake(tmp_path / "m")
    both = "left float32 [B, 16, 16, 3], right float32 [B, 16, 16, 3]"
    assert f"signature serving_default takes {both}; only one batch of images" in message


@pytest.mark.parametrize("tag_sets", [[[]], [[], ["train"]], [["train"], []]])
def test_a_tf1_hub_module_is_used_through_its_default_signature(
    tmp_path: pathlib.Path, tag_sets: list[list[str]]
) -> None:
    """Published modules have a graph without tags and often one for training as well."""
    import tensorflow as tf

    model = loading.load_model(ModelSource(save_tf1_hub_module(tmp_path / "m", tag_sets)))
    images = random_images()
    answer = model.call(tf.constant(images))
    np.testing.assert_allclose(answer, 2 * mean_colours(images), rtol=1e-5)


# Which size


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(16, 24)], (16, 24)),
        ([(None, None)], (None, None)),
        ([(None, 16)], (None, 16)),
        ([(16, 16), (32, 32)], (None, None)),
    ],
)
def test_a_callable_models_traces_tell_its_size(
    tmp_path: pathlib.Path, sizes: list[Size], expected: Size
) -> None:
    model = loading.load_model(ModelSource(save_callable(tmp_path / "m", sizes)))
    assert (model.height, model.width) == expected


@pytest.mark.parametrize("size", [(16, 24), (None, None), (16, None)])
def test_a_signature_tells_its_size(tmp_path: pathlib.Path, size: Size) -> None:
    source = ModelSource(save_signatures(tmp_path / "m", size, serving_default=1.0))
    model = loading.load_model(source)
    assert (model.height, model.width) == size


@pytest.mark.parametrize(("task", "width"), [("feature_vector", 1280), ("classification", 1000)])
def test_the_builtin_model_takes_any_size(task: Task, width: int) -> None:
    import tensorflow as tf

    source = ModelSource(task=task)
    assert source.is_builtin
    model = loading.load_model(source)
    assert (model.height, model.width) == (None, None)
    assert model.call(tf.zeros([2, 64, 48, 3])).shape == (2, width)


# What is no model


def test_a_missing_directory_is_named_and_the_builtin_model_offered(tmp_path: pathlib.Path) -> None:
    message = mistake(tmp_path / "gone")
    assert "no such directory" in message
    assert builtin.NAME in message


def test_a_file_is_no_model(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.h5").write_bytes(b"x")
    assert "directory" in mistake(tmp_path / "model.h5")


def test_a_directory_without_a_model_tells_what_it_holds(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no saved_model.pb in it; it holds nothing" in mistake(tmp_path / "empty")
    (tmp_path / "h5").mkdir()
    (tmp_path / "h5" / "model.h5").touch()
    assert "it holds model.h5" in mistake(tmp_path / "h5")


DAMAGES: dict[str, Callable[[pathlib.Path], object]] = {
    "empty graph": lambda model: (model / "saved_model.pb").write_bytes(b""),
    "truncated graph": lambda model: truncate(model / "saved_model.pb", 5000),
    "garbage graph": lambda model: (model / "saved_model.pb").write_bytes(b"\x89garbage" * 99),
    "no variables": lambda model: shutil.rmtree(model / "variables"),
    "no index": lambda model: (model / "variables" / "variables.index").unlink(),
    "no data": lambda model: data_file(model).unlink(),
    "empty data": lambda model: truncate(data_file(model), 0),
    "truncated data": lambda model: truncate(data_file(model), 100),
    "garbage index": lambda model: (model / "variables/variables.index").write_bytes(b"x" * 99),
}


def data_file(model: pathlib.Path) -> pathlib.Path:
    return model / "variables" / "variables.data-00000-of-00001"


def truncate(path: pathlib.Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_cannot_be_loaded_and_is_named(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, damage: str
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "m")
    DAMAGES[damage](model)
    message = mistake(model)
    assert any(words in message for words in ("cannot be loaded", "cannot be read", "is damaged"))


# The fingerprint


def test_a_fingerprint_follows_the_weights_and_not_the_place(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    original = files_sha256(ModelSource(str(tiny_model)))
    copy = shutil.copytree(tiny_model, tmp_path / "somewhere" / "else")
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    assert files_sha256(ModelSource(str(copy))) == original
    assert files_sha256(ModelSource(f"{copy}/")) == original
    assert len(original) == 64

    other = save_tiny_model(tmp_path / "other", seed=1)
    assert files_sha256(ModelSource(str(other))) != original


def test_one_changed_weight_changes_the_fingerprint(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "m")
    before = files_sha256(ModelSource(str(copy)))
    data = bytearray(data_file(copy).read_bytes())
    data[-1] ^= 1
    data_file(copy).write_bytes(data)
    assert files_sha256(ModelSource(str(copy))) != before


def test_weights_behind_a_link_count(tmp_path: pathlib.Path, tiny_model: pathlib.Path) -> None:
    fingerprints = []
    for seed in (1, 2):
        model = save_tiny_model(tmp_path / f"{seed}", seed)
        shutil.copy(tiny_model / "saved_model.pb", model)  # only the weights differ
        (model / "fingerprint.pb").unlink()
        (model / "variables").rename(tmp_path / f"weights-{seed}")
        (model / "variables").symlink_to(tmp_path / f"weights-{seed}")
        assert loading.load_model(ModelSource(str(model))).call is not None
        fingerprints.append(files_sha256(ModelSource(str(model))))
    assert fingerprints[0] != fingerprints[1]


def test_the_builtin_models_fingerprint_is_its_own() -> None:
    for task in builtin.HEADS:
        assert files_sha256(ModelSource(task=task)) == builtin.answers_sha256(task)


def test_a_fingerprint_of_no_model_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        files_sha256(ModelSource(str(tmp_path / "gone")))
