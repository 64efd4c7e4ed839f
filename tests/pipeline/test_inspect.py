"""`python -m pipeline.inspect`: what it says of models, good ones and broken ones."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pipeline import inspect
from tests.helpers.commands import run
from transforms.examine import probes
from transforms.examine.examination import examine
from transforms.models.source import ModelSource

SIZE, WIDTH = 16, 8
_FREE, _FIXED = (None, None, None, 3), (None, SIZE, SIZE, 3)


def _variables() -> dict[str, tf.Variable]:
    shapes = {"kernel": [3, 3, 3, 12], "dense": [12, WIDTH], "bias": [12]}
    return {
        name: tf.Variable(tf.random.stateless_normal(shape, [7, seed]), name=name)
        for seed, (name, shape) in enumerate(shapes.items())
    }


def _maps(images: tf.Tensor, v: dict[str, tf.Variable]) -> tf.Tensor:
    return tf.nn.relu(tf.nn.conv2d(images, v["kernel"], 2, "SAME") + v["bias"])


def _vectors(images: tf.Tensor, v: dict[str, tf.Variable]) -> tf.Tensor:
    return tf.reduce_mean(_maps(images, v), [1, 2]) @ v["dense"]


def _good(images, v):
    return _vectors(images, v)


def _nchw(images, v):
    return _vectors(tf.transpose(images, [0, 2, 3, 1]), v)


def _output_dropout(images, v):
    return tf.nn.dropout(_vectors(images, v), 0.5)


def _constant_output_dropout(images, v):
    vectors = _vectors(images, v)
    kept = tf.random.stateless_uniform(tf.shape(vectors), [1, 2]) > 0.5
    return tf.where(kept, 2 * vectors, tf.zeros_like(vectors))


def _inner_dropout(images, v):
    return tf.reduce_mean(tf.nn.dropout(_maps(images, v), 0.5), [1, 2]) @ v["dense"]


def _batch_norm_in_training(images, v):
    maps = _maps(images, v)
    mean, variance = tf.nn.moments(maps, [0, 1, 2])
    normal = tf.nn.batch_normalization(maps, mean, variance, None, None, 1e-3)
    return tf.reduce_mean(tf.nn.relu(normal), [1, 2]) @ v["dense"]


def _for_0_to_255(images, v):
    return _vectors(images / 127.5 - 1.0, v)


def _feature_map(images, v):
    return _maps(tf.image.resize(images, [14, 14]), v)


def _nan_spreads(images, v):
    return _vectors(images, v) + 0.0 * tf.reduce_sum(images)


def _not_constant_width(images, v):
    maps = _maps(images, v)
    return tf.reshape(maps, [tf.shape(maps)[0], tf.shape(maps)[1] * tf.shape(maps)[2] * 12])


def _grey(images, v):
    return _vectors(tf.repeat(tf.reduce_mean(images, 3, keepdims=True), 3, 3), v)


def _constant(images, v):
    return tf.ones([tf.shape(images)[0], WIDTH]) * v["bias"][0]


def _save(
    directory: pathlib.Path,
    function: Callable[..., Any],
    shape: Sequence[int | None] = _FIXED,
    dtype: tf.DType = tf.float32,
    is_listed: bool = True,
) -> str:
    """Saves a Reusable SavedModel, which lists its variables."""
    variables = _variables()
    model = tf.train.Checkpoint(**variables)
    traced = tf.function(input_signature=[tf.TensorSpec(shape, dtype, "images")], autograph=False)
    model.__call__ = traced(lambda images: function(images, variables))
    if is_listed:
        model.variables = list(variables.values())
        model.trainable_variables = list(variables.values())
        model.regularization_losses = []
    tf.saved_model.save(model, str(directory / "model"))
    return str(directory / "model")


@dataclasses.dataclass(frozen=True)
class Inspected:
    code: int
    json: dict[str, Any]

    def named(self, status: str) -> list[str]:
        return [check["name"] for check in self.json["checks"] if check["status"] == status]

    def seen(self, name: str) -> str:
        return next(c["seen"] for c in self.json["checks"] if c["name"] == name)

    def command(self) -> list[str]:
        return shlex.split(self.json["command"])


@pytest.fixture
def look(capsys: pytest.CaptureFixture[str]) -> Callable[..., Inspected]:
    def call(*arguments: str) -> Inspected:
        code = inspect.main([*arguments, "--json"])
        return Inspected(code, json.loads(capsys.readouterr().out))

    return call


@pytest.mark.parametrize(
    ("function", "shape", "failing", "seen"),
    [
        (_nchw, (None, 3, SIZE, SIZE), ["float32 images"], "--model_layout NCHW"),
        (_output_dropout, _FIXED, ["no output dropout", "deterministic"], "of the values are 0"),
        (_constant_output_dropout, _FIXED, ["no output dropout", "batch-independent"], "are 0"),
        (_inner_dropout, _FIXED, ["deterministic"], "two calls differ"),
        (_batch_norm_in_training, _FIXED, ["batch-independent"], "vectors differ by"),
        (_good, (8, SIZE, SIZE, 3), ["any batch size"], "takes exactly 8 images"),
        (_feature_map, _FIXED, ["float32 [B, N]"], "--pool mean"),
        (_nan_spreads, _FIXED, ["NaN and infinity"], "an image with NaN changes"),
        (_not_constant_width, _FREE, ["N same at any H, W"], "N changes: "),
    ],
)
def test_a_broken_model_fails_the_check_that_names_what_is_wrong(
    tmp_path, look, function, shape, failing, seen
):
    found = look(_save(tmp_path, function, shape))
    assert found.code == 1
    assert sorted(found.named("fail")) == sorted(failing)
    assert seen in found.seen(failing[0])
    assert found.json["description"]["parameters"] == 3 * 3 * 3 * 12 + 12 * WIDTH + 12


def test_a_model_for_0_to_255_is_warned_of_and_conforms(tmp_path, look):
    found = look(_save(tmp_path, _for_0_to_255))
    assert found.code == 0
    assert found.named("warn") == ["value range"] and found.named("fail") == []
    assert "trained for [0, 255]" in found.seen("value range")


def test_a_range_and_a_layout_that_are_given_are_used_and_in_the_command(tmp_path, look):
    path = _save(tmp_path, _for_0_to_255)
    assert "--value_range 0,255 gives it those" in look(path).seen("value range")
    found = look(path, "--value_range", "0,255")
    assert "value range" in found.named("pass")
    assert "--value_range=0,255" in found.command()
    assert "--value_range=-1,1" in look(path, "--value_range", "-1,1").command()
    (tmp_path / "nchw").mkdir()
    path = _save(tmp_path / "nchw", _nchw, (None, 3, None, None))
    assert look(path).json["command"] is None
    found = look(path, "--model_layout", "NCHW")
    assert found.code == 0 and "--model_layout=NCHW" in found.command()


def test_a_model_that_answers_the_same_to_all_is_warned_of(tmp_path, look):
    assert "different images give the same" in look(_save(tmp_path, _constant)).seen("value range")


def test_a_grey_model_does_not_mind_the_order_of_channels(tmp_path, look):
    assert "the order does not matter" in look(_save(tmp_path, _grey)).seen("channel order")
    (tmp_path / "colour").mkdir()
    assert "given as RGB" in look(_save(tmp_path / "colour", _good)).seen("channel order")


def test_what_a_good_model_is(tmp_path, look):
    found = look(_save(tmp_path, _good, _FREE))
    assert found.code == 0 and found.json["conformant"]
    assert found.json["vector_width"] == WIDTH
    assert found.json["called"]["function"] == "__call__"
    what = found.json["description"]
    images = {"name": "images", "dtype": "float32", "shape": list(_FREE)}
    assert what["functions"][0]["inputs"] == [images]
    assert what["functions"][0]["outputs"][0]["shape"] == [None, WIDTH]
    assert what["parameter_bytes"] == 4 * what["parameters"] and what["dtypes"] == ["float32"]
    assert what["fine_tunable"] and what["regularization_losses"] == 0
    assert what["ops"]["Conv2D"] == 1 and what["forbidden"] == []
    assert what["disk_bytes"] > what["parameter_bytes"]
    assert found.command()[-2:] == ["--image_size", "224x224"]


def test_the_command_has_what_the_model_needs(tmp_path, look):
    path = _save(tmp_path, _feature_map)
    assert look(path).command()[-2:] == ["--pool", "mean"]
    pooled = look(path, "--pool", "max")
    assert pooled.named("fail") == ["float32 [B, N]"] and pooled.json["vector_width"] == 12
    assert pooled.command()[-2:] == ["--pool", "max"]
    (tmp_path / "eight").mkdir()
    fixed = look(_save(tmp_path / "eight", _good, (8, SIZE, SIZE, 3)))
    assert fixed.command()[-2:] == ["--batch_size", "8"]
    (tmp_path / "nchw").mkdir()
    assert look(_save(tmp_path / "nchw", _nchw, (None, 3, 9, 9))).json["command"] is None


def test_a_model_that_takes_uint8_is_checked_although_the_api_wants_float32(tmp_path, look):
    found = look(_save(tmp_path, lambda i, v: _vectors(tf.cast(i, tf.float32), v), dtype=tf.uint8))
    assert found.code == 1 and found.named("fail") == ["float32 images"]
    assert "uint8" in found.seen("float32 images")
    assert {"value range", "NaN and infinity"} <= set(found.named("not applicable"))
    assert "batch-independent" in found.named("pass")


def test_variables_that_are_not_listed_are_missed(tmp_path, look):
    found = look(_save(tmp_path, _good, is_listed=False))
    assert found.named("fail") == ["variables listed"]
    assert not found.json["description"]["fine_tunable"]
    assert found.json["description"]["parameters"] == 3 * 3 * 3 * 12 + 12 * WIDTH + 12


def test_training_and_hyper_parameters_are_found(tmp_path, look):
    class Model(tf.train.Checkpoint):
        @tf.function
        def __call__(self, images, training=False, scale=1.0):
            return _vectors(images, variables) * scale + (0.5 if training else 0.0)

    variables = _variables()
    model = Model(**variables)
    model.variables = model.trainable_variables = list(variables.values())
    spec = tf.TensorSpec(_FIXED, tf.float32, "images")
    scale = tf.TensorSpec([], tf.float32, "scale")
    for training in (True, False):
        model.__call__.get_concrete_function(spec, training=training, scale=scale)
    tf.saved_model.save(model, str(tmp_path / "m"))
    found = look(str(tmp_path / "m"), "--model_args", '{"scale": 2.0}')
    assert "training accepted" in found.named("pass"), found
    assert found.json["description"]["hyper_parameters"] == ["scale"]
    assert '{"scale": 2.0}' in found.command()


def test_a_keras_file_is_described_and_passes(tmp_path, look):
    import keras

    layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), *layers, keras.layers.Dense(5)])
    path = tmp_path / "model.keras"
    model.save(path)
    found = look(str(path))
    assert found.code == 0, found.json
    assert found.json["vector_width"] == 5
    assert found.json["description"]["parameters"] == model.count_params()


def test_a_signature_is_called(tmp_path, look):
    variables = _variables()
    model = tf.train.Checkpoint(**variables)
    spec = tf.TensorSpec(_FIXED, tf.float32, "images")
    serve = tf.function(lambda images: {"v": _vectors(images, variables)}, input_signature=[spec])
    tf.saved_model.save(model, str(tmp_path / "m"), signatures={"serving_default": serve})
    found = look(str(tmp_path / "m"))
    assert found.code == 0 and found.json["called"]["function"] == "serving_default"
    assert {"variables listed", "training accepted"} <= set(found.named("not applicable"))


def test_one_of_several_outputs_has_to_be_chosen(tmp_path, look):
    path = _save(tmp_path, lambda i, v: {"a": _vectors(i, v), "b": _vectors(i, v)[:, :3]})
    found = look(path)
    assert found.named("fail") == ["float32 [B, N]"]
    assert "a [B, 8], b [B, 3]" in found.seen("float32 [B, N]")
    assert found.command()[-2:] == ["--output_key", "a"]
    chosen = look(path, "--output_key", "b")
    assert chosen.code == 0 and chosen.json["vector_width"] == 3


def test_a_model_of_encoded_images_is_described(tmp_path, look):
    def function(encoded, v):
        def decode(image):
            pixels = tf.io.decode_image(image, 3, expand_animations=False)
            return tf.image.resize(tf.image.convert_image_dtype(pixels, tf.float32), [9, 9])

        return _vectors(tf.map_fn(decode, encoded, fn_output_signature=tf.float32), v)

    found = look(_save(tmp_path, function, (None,), tf.string))
    assert found.code == 1 and found.named("fail") == ["float32 images"]
    assert found.json["called"]["kind"] == "encoded"
    assert "--image_size" not in found.command()


def test_heavy_models_are_asked_for_few_pixels_only_if_they_leave_the_size_free(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(probes, "_HEAVY_SECONDS", 0.0)
    free, fixed = tmp_path / "free", tmp_path / "fixed"
    free.mkdir(), fixed.mkdir()
    sizes = [
        examine(ModelSource(name=path), asked).image_size
        for path, asked in (
            (_save(free, _good, _FREE), None),
            (str(free / "model"), (40, 50)),
            (_save(fixed, _good), None),
        )
    ]
    assert sizes == [(128, 128), (40, 50), (SIZE, SIZE)]


def test_a_model_with_forbidden_ops_is_described_and_not_loaded(tmp_path, look):
    def function(images, v):
        return _vectors(images, v) + tf.cast(tf.size(tf.io.matching_files("/none/*")), tf.float32)

    path = _save(tmp_path, function)
    found = look(path)
    assert found.code == 1 and found.json["command"] is None
    assert found.named("fail") == ["only computes", "float32 images"]
    assert "MatchingFiles" in found.seen("only computes")
    trusted = look(path, "--trust_model")
    assert trusted.code == 0 and trusted.named("warn") == ["only computes"]
    assert "--trust_model" in trusted.command()


@pytest.mark.parametrize("task", ["feature_vector", "classification"])
def test_the_built_in_model_conforms(look, task):
    found = look("efficientnet-lite0", "--task", task, "--image_size", "64x64")
    assert found.code == 0 and not found.named("fail") and not found.named("warn")
    assert found.json["vector_width"] == {"feature_vector": 1280, "classification": 1000}[task]


def test_the_built_in_model_at_the_terminal():
    command = [sys.executable, "-m", "pipeline.inspect", "efficientnet-lite0", "--json"]
    done = run(command)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["conformant"] is True


def test_the_table_for_people(tmp_path, capsys):
    path = _save(tmp_path, _batch_norm_in_training)
    assert inspect.main([path]) == 1
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert any(line.split()[:2] == ["fail", "batch-independent"] for line in lines)
    assert any(line.startswith("fine-tunable") and "yes: 3" in line for line in lines)
    assert "Follows TensorFlow Hub's image API: no, see batch-independent" in lines
    assert lines[-1].startswith("python -m pipeline.run --input") and path in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/absent"], "no such file or directory"),
        (["{tmp}"], "no saved_model.pb in it"),
        (["{model}", "--signature", "other"], "no such signature"),
        (["{model}", "--output_key", "other"], "--output_key"),
        (["{model}", "--model_args", '{"x": 1}'], "takes no x"),
        (["{model}", "--image_size", "9x9"], "the model takes 16x16"),
        (["{model}", "--image_size", "big"], "give HEIGHTxWIDTH"),
        (["{model}", "--pool", "sum"], "invalid choice"),
        (["{model}", "--model_sha256", "12"], "not 64 hexadecimal digits"),
        ([], "required: MODEL"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, tiny_model, arguments, message):
    places = {"tmp": tmp_path, "model": tiny_model}
    words = [w if w.startswith('{"') else w.format(**places) for w in arguments]
    assert inspect.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("error: ") and message in captured.err


def test_damaged_files_are_a_mistake(tmp_path, capsys):
    path = pathlib.Path(_save(tmp_path, _good))
    (path / "variables" / "variables.index").unlink()
    assert inspect.main([str(path)]) == 2
    (path / "saved_model.pb").write_bytes(b"\x08\x01\x12")
    assert inspect.main([str(path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all(line.startswith(f"error: --model {path}") for line in errors)


def test_probe_images_are_always_the_same_and_in_range():
    images = probes.probe_images(10, 12)
    assert images.shape == (8, 10, 12, 3) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    np.testing.assert_array_equal(images, probes.probe_images(10, 12))


def test_a_classifier_is_known_by_what_it_answers_and_the_command_says_so(
    tmp_path: pathlib.Path, capfd
) -> None:
    import keras
    import tensorflow as tf

    layers = [keras.Input((16, 16, 3)), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(5, "softmax")])
    model.save(tmp_path / "digits.keras")
    inspect.main([str(tmp_path / "digits.keras")])
    told = capfd.readouterr().out
    assert "a classifier: each of its vectors of 5 adds up to 1, as probabilities do" in told
    assert "--task classification" in told and "--labels FILE" in told

    class Named(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def __call__(self, images):
            return {"logits": tf.reduce_mean(images, [1, 2]) - 0.5}

    tf.saved_model.save(Named(), str(tmp_path / "named"))
    inspect.main([str(tmp_path / "named")])
    told = capfd.readouterr().out
    assert "a classifier: its output is called logits" in told
    assert "--task classification" in told
    inspect.main([str(tmp_path / "named"), "--task", "feature_vector"])
    assert "--task feature_vector" in capfd.readouterr().out


def test_the_command_names_an_output_of_a_keras_model_as_the_model_does(
    tmp_path: pathlib.Path, capfd
) -> None:
    import keras

    image = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(image)
    outputs = {"wide": keras.layers.Dense(3)(flat), "narrow": keras.layers.Dense(2)(flat)}
    keras.Model(image, outputs).save(tmp_path / "two.keras")
    inspect.main([str(tmp_path / "two.keras")])
    told = capfd.readouterr().out
    assert "--output_key narrow" in told.splitlines()[-1]
    assert inspect.main([str(tmp_path / "two.keras"), "--output_key", "narrow"]) == 0
