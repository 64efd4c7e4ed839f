"""Before a job begins its model is tried on its first images: refused, warned of, or recorded."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tensorflow as tf

from tests.helpers.commands import Finished
from tests.helpers.images import write_random_images
from tests.helpers.tiny_model import TINY_SIZE

Run = Callable[..., Finished]


def save(directory: pathlib.Path, answer: Callable) -> pathlib.Path:
    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, TINY_SIZE, TINY_SIZE, 3], tf.float32)])
        def __call__(self, images):
            return answer(images)

    tf.saved_model.save(Model(), str(directory))
    return directory


def augmenting(images):
    brightness = tf.random.uniform([tf.shape(images)[0], 1, 1, 1], 0.5, 1.5, seed=1)
    return tf.reduce_mean(images * brightness, [1, 2])


def for_bytes(images):
    """Tells colours apart by whether they are above the middle, as training on bytes made it."""
    return tf.reduce_mean(tf.nn.sigmoid((images - 127.5) / 30.0), [1, 2])


@pytest.fixture
def images(tmp_path: pathlib.Path) -> pathlib.Path:
    write_random_images(tmp_path / "in", 6)
    return tmp_path / "in"


def recorded(output: pathlib.Path) -> dict[str, str]:
    report = json.loads((output / "_run.json").read_text())
    return {check["name"]: check["status"] for check in report["model_checks"]}


def test_a_model_with_active_augmentation_is_refused_by_name_unless_accepted(
    tmp_path: pathlib.Path, images: pathlib.Path, run_here: Run
) -> None:
    model, out = save(tmp_path / "m", augmenting), tmp_path / "out"
    command = ["--input", images, "--output", out, "--model", model]
    done = run_here(*command)
    assert done.code == 2
    [mistake] = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert f"--model {model}: is not deterministic: two calls on 4 images differ by " in mistake
    assert "--accept_model runs it as it is" in mistake
    assert not list(out.glob("part-*"))
    done = run_here(*command, "--accept_model")
    assert done.code == 0
    assert f"warning: --model {model}: accepted although not deterministic: " in done.err
    assert recorded(out) == {"deterministic": "fail"}
    assert len(pd.read_parquet(out)) == 6


def test_a_model_for_0_to_255_is_warned_of_and_the_range_makes_it_right(
    tmp_path: pathlib.Path, images: pathlib.Path, run_here: Run
) -> None:
    model, out = save(tmp_path / "m", for_bytes), tmp_path / "out"
    command = ["--input", images, "--model", model, "--output"]
    done = run_here(*command, tmp_path / "wrong")
    assert done.code == 0
    [warning] = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert "of their length from a black image's for [0, 1], " in warning
    assert warning.endswith("but gets [0, 1]; --value_range 0,255 gives it those")
    assert recorded(tmp_path / "wrong")["value range"] == "warn"
    done = run_here(*command, out, "--value_range", "0,255")
    assert done.code == 0 and "warning" not in done.err
    assert set(recorded(out).values()) == {"pass"}
    for row in pd.read_parquet(out).itertuples():
        pixels = tf.convert_to_tensor(np.asarray(PIL.Image.open(row.uri), np.float32))
        resized = tf.image.resize(pixels, (TINY_SIZE, TINY_SIZE))
        expected = for_bytes(resized[tf.newaxis])[0]
        np.testing.assert_allclose(row.feature_vector, expected, atol=1e-5)
    done = run_here(*command, out)
    assert done.code == 2 and "value_range was 0,255" in done.err


def test_without_anything_to_do_nothing_is_tried(
    tmp_path: pathlib.Path, images: pathlib.Path, run_here: Run
) -> None:
    model, out = save(tmp_path / "m", for_bytes), tmp_path / "out"
    command = ["--input", images, "--output", out, "--model", model]
    assert run_here(*command).code == 0
    done = run_here(*command)
    assert done.code == 0 and "warning" not in done.err
    assert recorded(out) == {}


def test_images_that_cannot_be_decoded_are_no_hindrance(
    tmp_path: pathlib.Path, run_here: Run
) -> None:
    """The first eight are none; fixed images take their place."""
    write_random_images(tmp_path / "in", 2)
    for number in range(8):
        (tmp_path / "in" / f"0{number}.jpg").write_bytes(b"\xff\xd8 no JPEG")
    model, out = save(tmp_path / "m", augmenting), tmp_path / "out"
    command = ["--input", tmp_path / "in", "--output", out, "--model", model]
    done = run_here(*command)
    assert done.code == 2 and "is not deterministic" in done.err
