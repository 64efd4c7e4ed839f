"""Every published form of a model gives, in the parts, what its own library gives."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import shutil
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.helpers import model_forms
from tests.helpers.commands import Finished
from tests.helpers.images import write_random_images
from tests.helpers.model_forms import FORMS, Form

TOLERANCE = 1e-4
# Of what sets the images apart: some models with random weights answer about 1e-12 to all.
RELATIVE_TOLERANCE = 1e-2


@dataclasses.dataclass
class Row:
    """A form of a model, and how close the part is to what its own library gives.

    Attributes:
      difference: the largest, absolute.
      spread: the largest difference that one element of the vector has between images.
    """

    form: str
    result: str = "FAIL"
    difference: float = math.nan
    spread: float = math.nan


@pytest.fixture(scope="module")
def images(photos, tmp_path_factory) -> list[pathlib.Path]:
    """Photos, and random images smaller than the models' input, larger, and of its size."""
    root = tmp_path_factory.mktemp("images")
    paths = [*photos[:2], *photos[-1:]]
    for count, size in ((2, 20), (4, model_forms.SIZE), (1, 64), (2, 75)):
        paths += write_random_images(root / str(size), count, size)
    return paths


@pytest.fixture(scope="module")
def table(request) -> Iterator[list[Row]]:
    """Form and result; printed past the capture when the module's tests have run."""
    rows: list[Row] = []
    yield rows
    plugins = request.config.pluginmanager
    write = plugins.get_plugin("terminalreporter").write_line
    width = max((len(row.form) for row in rows), default=0)
    with plugins.get_plugin("capturemanager").global_and_fixture_disabled():
        write(f"\n{'form':{width}}  result  difference  spread of the vectors")
        for row in rows:
            write(f"{row.form:{width}}  {row.result}    {row.difference:<10.1e}  {row.spread:.1e}")


def as_taken(path: pathlib.Path, form: Form) -> tf.Tensor:
    """One image as the model takes it, made by `tf.image`."""
    encoded = path.read_bytes()
    if form.takes == "encoded":
        return tf.constant(encoded)
    if form.takes == "example":
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
        features = tf.train.Features(feature={"image/encoded": feature})
        return tf.constant(tf.train.Example(features=features).SerializeToString())
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image = tf.image.resize(tf.image.convert_image_dtype(image, tf.float32), form.size)
    return tf.image.convert_image_dtype(image, form.takes, saturate=True)


def by_its_own_library(form: Form, images: list[pathlib.Path]) -> np.ndarray:
    """float32 [B, N]."""
    batch = tf.stack([as_taken(path, form) for path in images])
    size = form.batch_size or len(images)
    assert len(images) % size == 0
    answers = [form.direct(batch[at : at + size]) for at in range(0, len(images), size)]
    return np.concatenate([tf.cast(answer, tf.float32).numpy() for answer in answers])


def in_the_parts(output: pathlib.Path, images: list[pathlib.Path]) -> np.ndarray:
    """float32 [B, N]."""
    vectors = pd.read_parquet(output).set_index("id")["feature_vector"]
    assert sorted(vectors.index) == sorted(map(str, images))
    return np.stack([vectors[str(path)] for path in images])


def check_parts(
    form: Form,
    images: list[pathlib.Path],
    run_here: Callable[..., Finished],
    output: pathlib.Path,
    row: Row,
) -> None:
    """Runs the command line and compares; `row` tells how far it came."""
    done = run_here("--input", *images, "--output", output, "--model", form.model, *form.flags)
    assert done.code == 0, done.err
    ours, theirs = in_the_parts(output, images), by_its_own_library(form, images)
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    row.difference = float(np.abs(ours - theirs).max())
    row.spread = float(np.ptp(theirs, axis=0).max())
    assert row.difference <= TOLERANCE
    assert row.spread > 0, "the model tells no images apart"
    assert row.difference <= RELATIVE_TOLERANCE * row.spread
    row.result = "same"


@pytest.mark.parametrize("name", FORMS)
def test_a_part_holds_what_the_model_gives_in_its_own_library(
    name, images, run_here, tmp_path, table
):
    table.append(Row(name))
    form = FORMS[name](tmp_path / "model")
    check_parts(form, images, run_here, tmp_path / "out", table[-1])


@pytest.mark.parametrize(
    "name", ["tf.Module, callable", *(name for name in FORMS if name.endswith("input"))]
)
def test_images_of_the_models_own_size_give_the_same_as_in_its_own_library(
    name, run_here, tmp_path, table
):
    table.append(Row(f"{name}, images of its size"))
    images = write_random_images(tmp_path / "images", 4, model_forms.SIZE)
    form = FORMS[name](tmp_path / "model")
    check_parts(form, images, run_here, tmp_path / "out", table[-1])


@pytest.mark.parametrize("size", [(160, 160), (224, 224), (331, 200)])
def test_a_model_of_any_size_gives_vectors_of_one_length(size, images, run_here, tmp_path, table):
    table.append(Row(f"tf.Module, free HxW, {size[0]}x{size[1]}"))
    form = model_forms.free_size(tmp_path / "model", size)
    check_parts(form, images, run_here, tmp_path / "out", table[-1])
    assert in_the_parts(tmp_path / "out", images).shape[1] == model_forms.WIDTH


def absent(directory: pathlib.Path) -> None:
    """Leaves nothing there."""


def empty(directory: pathlib.Path) -> None:
    directory.mkdir()


def truncated(directory: pathlib.Path) -> None:
    model_forms.callable_module(directory)
    graph = directory / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])


def cut_to_nothing(directory: pathlib.Path) -> None:
    model_forms.callable_module(directory)
    (directory / "saved_model.pb").write_bytes(b"")


def without_variables(directory: pathlib.Path) -> None:
    model_forms.callable_module(directory)
    shutil.rmtree(directory / "variables")


def without_data(directory: pathlib.Path) -> None:
    model_forms.callable_module(directory)
    (directory / "variables/variables.data-00000-of-00001").unlink()


def keras_file(directory: pathlib.Path) -> pathlib.Path:
    path = directory.with_suffix(".keras")
    model_forms.keras.Sequential([model_forms.keras.Input((8, 8, 3))]).save(path)
    return path


def int32_input(directory: pathlib.Path) -> None:
    model_forms.takes_dtype("int32", directory)


@pytest.mark.parametrize(
    ("make", "flags", "said"),
    [
        (absent, [], ["no such file or directory", "a Kaggle handle"]),
        (empty, [], ["no saved_model.pb", "it holds nothing"]),
        (truncated, [], ["cannot be loaded", "it holds", "saved_model.pb"]),
        (cut_to_nothing, [], ["saved_model.pb is damaged: it holds no graph"]),
        (without_variables, [], ["variables", "it holds fingerprint.pb, saved_model.pb"]),
        (
            without_data,
            [],
            ["variables.data-00000-of-00001", "saved_model.pb, variables/variables.index"],
        ),
        (model_forms.only_signatures, ["--signature", "no"], ["no", "serving_default", "other"]),
        (model_forms.callable_module, ["--signature", "no"], ["no", "serving_default"]),
        (model_forms.hub_module, ["--signature", "no"], ["default, image_feature_vector"]),
        (
            model_forms.dict_output,
            ["--output_key", "no"],
            ["default [B, 7]", "extra [B, 2]", "features [B, 7]"],
        ),
        (model_forms.callable_module, ["--output_key", "no"], ["one output without a name"]),
        (model_forms.callable_module, ["--tags", "no"], ["it has serve"]),
        (
            lambda directory: model_forms.hub_module(directory, "--tags", "train"),
            ["--tags", "no"],
            ["it has (none); train"],
        ),
        (model_forms.hyper_parameter, ["--model_args", '{"no": 1}'], ["no", "training, gain"]),
        (model_forms.only_signatures, ["--model_args", '{"no": 1}'], ["no", "images"]),
        (keras_file, ["--signature", "no"], ["--signature", "a .keras file has none"]),
        (keras_file, ["--tags", "no"], ["--tags", "a .keras file has none"]),
        (keras_file, ["--model_args", '{"no": 1}'], ["--model_args", "a .keras file has none"]),
        (int32_input, [], ["takes int32"]),
        (
            lambda directory: model_forms.feature_map("mean", directory),
            [],
            ["feature map [B, 16, 16, 7]", "--pool mean", "--pool max"],
        ),
        (
            lambda directory: model_forms.keras_form(
                model_forms.keras, model_forms.export, "", directory, outputs="list"
            ),
            [],
            ["--output_key", "output_0 [B, 7]", "output_1 [B, 2]"],
        ),
    ],
)
def test_what_does_not_fit_is_one_line_that_lists_what_there_is(
    make, flags, said, images, run_here, tmp_path
):
    model, output = tmp_path / "model", tmp_path / "out"
    made = make(model)
    model = made if isinstance(made, pathlib.Path) else model
    done = run_here("--input", *images, "--output", output, "--model", model, *flags)
    assert done.code == 2, done.err
    line = done.err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert str(model) in line
    for words in said:
        assert words in line
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not output.exists()
