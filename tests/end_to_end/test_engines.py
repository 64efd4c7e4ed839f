"""`--engine` and `--precision`, as the person at the terminal meets them."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from tests.helpers.commands import Finished, run_command
from tests.helpers.images import write_random_images
from transforms.images.decode import decode_image
from transforms.images.resize import to_float
from transforms.images.spec import ImageSpec
from transforms.machine.openvino_import import import_openvino
from transforms.models import builtin

# The activations of a batch are most of the memory that the built-in model takes.
SMALL_BATCHES = ("--batch_size", "4")

Run = Callable[..., Finished]

HAS_BFLOAT16 = "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture
def images(tmp_path: pathlib.Path) -> pathlib.Path:
    write_random_images(tmp_path / "in", 70)
    return tmp_path / "in"


def vectors(output: pathlib.Path) -> np.ndarray:
    return np.stack(pd.read_parquet(output).set_index("id").sort_index()["feature_vector"])


def report(output: pathlib.Path) -> dict:
    return json.loads((output / "_run.json").read_text())


def test_openvino_gives_the_vectors_that_hub_load_gives(photos, run_here, tmp_path):
    done = run_here(
        "--input", *photos, "--output", tmp_path / "out", *SMALL_BATCHES, "--engine", "openvino"
    )
    assert done.code == 0, done.err
    assert "engine openvino float32 against tensorflow float32: largest difference" in done.err
    table = pd.read_parquet(tmp_path / "out").set_index("id")
    model = hub.load(builtin.exported("feature_vector"))
    for path in photos:
        image = decode_image(path.read_bytes(), ImageSpec(224, 224)).pixels
        floats = image if image.dtype == np.float32 else to_float(image)
        expected = model(floats[np.newaxis])[0].numpy()
        ours = table.loc[str(path), "feature_vector"]
        assert np.abs(ours - expected).max() <= 1e-4 * np.linalg.norm(expected), path
    told = report(tmp_path / "out")
    assert told["fingerprint"]["engine"] == "openvino"
    assert told["fingerprint"]["precision"] == "float32"
    assert 0 < told["parity"]["relative_difference"] <= 1e-4
    assert told["parity"]["smallest_cosine"] > 0.999999


def test_auto_takes_openvino_and_stays_with_the_engine_of_the_output(
    images, tiny_model, run_here, tmp_path
):
    command = ["--input", images, "--model", tiny_model, "--output"]
    assert run_here(*command, tmp_path / "auto", "--engine", "auto").code == 0
    assert report(tmp_path / "auto")["fingerprint"]["engine"] == "openvino"
    assert run_here(*command, tmp_path / "tf").code == 0
    assert report(tmp_path / "tf")["parity"] is None
    np.testing.assert_allclose(vectors(tmp_path / "auto"), vectors(tmp_path / "tf"), rtol=1e-4)
    write_random_images(images / "more", 7)
    done = run_here(*command, tmp_path / "tf", "--engine", "auto")
    assert done.code == 0, done.err
    assert report(tmp_path / "tf")["fingerprint"]["engine"] == "tensorflow"
    refused = run_here(*command, tmp_path / "tf", "--engine", "openvino")
    assert refused.code == 2
    assert "made with other settings: engine was tensorflow, is openvino" in refused.err


def test_workers_run_the_engine_that_the_launcher_chose(images, tiny_model, run_here, tmp_path):
    command = ["--input", images, "--model", tiny_model, "--engine", "auto"]
    workers = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    assert run_here(*command, "--output", tmp_path / "one").code == 0
    done = run_command(*command, "--output", tmp_path / "two", *workers)
    assert done.code == 0, done.err
    np.testing.assert_array_equal(vectors(tmp_path / "two"), vectors(tmp_path / "one"))


def test_a_precision_beyond_the_tolerance_is_refused_with_the_figures(photos, run_here, tmp_path):
    command = ["--input", *photos, "--output", tmp_path / "out", *SMALL_BATCHES]
    command += ["--engine", "openvino", "--precision", "bfloat16"]
    strict = run_here(*command, "--min_cosine", "0.9999999")
    assert strict.code == 2
    assert not (tmp_path / "out").exists()
    if not HAS_BFLOAT16:
        assert "--precision bfloat16: this CPU has no bfloat16 instructions" in strict.err
        return
    assert "--engine openvino --precision bfloat16: too far from TensorFlow" in strict.err
    seen = re.search(r"smallest cosine (0\.\d+); at least 1 \(--min_cosine\)", strict.err)
    assert seen is not None, strict.err
    done = run_here(*command, "--min_cosine", "0.99")
    assert done.code == 0, done.err
    told = report(tmp_path / "out")
    assert told["fingerprint"]["precision"] == "bfloat16"
    assert told["parity"]["smallest_cosine"] == pytest.approx(float(seen[1]), abs=1e-5)


def test_auto_passes_over_an_engine_that_cannot_run_the_model(photos, run_here, tmp_path):
    class Decodes(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def __call__(self, encoded):
            def one(data):
                image = tf.io.decode_image(data, 3, tf.float32, expand_animations=False)
                return tf.reduce_mean(image, [0, 1])

            return tf.map_fn(one, encoded, fn_output_signature=tf.TensorSpec([3], tf.float32))

    tf.saved_model.save(Decodes(), str(tmp_path / "model"))
    command = ["--input", *photos[:5], "--model", tmp_path / "model", "--output", tmp_path / "out"]
    done = run_here(*command, "--engine", "auto")
    assert done.code == 0, done.err
    assert "engine tensorflow; passed over: --engine openvino: " in done.err
    assert report(tmp_path / "out")["fingerprint"]["engine"] == "tensorflow"
    refused = run_here(*command, "--engine", "openvino")
    assert refused.code == 2
    assert "decodes the images itself; give --engine tensorflow" in refused.err


def test_a_precision_that_no_engine_here_has_is_told(images, tiny_model, run_here, tmp_path):
    command = ["--input", images, "--model", tiny_model, "--output", tmp_path / "out"]
    done = run_here(*command, "--precision", "float16")
    assert done.code == 2
    message = "--precision float16: TensorFlow computes in float32 on a CPU"
    assert message in done.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
