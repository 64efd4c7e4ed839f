"""A model that fails on one image costs that image; one that fails on all, the job."""

from __future__ import annotations

import pathlib

import numpy as np
import pandas as pd
import PIL.Image
import tensorflow as tf

from pipeline import verify


def save_picky_model(directory) -> None:
    """Fails on an image that is white all over."""

    class Picky(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32)])
        def __call__(self, images):
            means = tf.reduce_mean(images, [1, 2])
            check = tf.debugging.Assert(tf.reduce_all(means < 0.999), ["blinded by white"])
            with tf.control_dependencies([check]):
                return tf.identity(means)

    tf.saved_model.save(Picky(), str(directory))


def test_one_image_is_an_error_row_and_the_other_31_are_rows(run_here, tmp_path):
    save_picky_model(tmp_path / "model")
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(32):
        pixels = random.integers(0, 200, (16, 16, 3), dtype=np.uint8)
        if number == 13:
            pixels[:] = 255
        PIL.Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    done = run_here("--input", folder, "--output", tmp_path / "out", "--model", tmp_path / "model")
    assert done.code == 0, done.err
    table = pd.read_parquet(tmp_path / "out")
    errors = pd.read_parquet(tmp_path / "out" / "_errors")
    assert len(table) == 31
    for row in table.itertuples():
        pixels = np.asarray(PIL.Image.open(row.uri)).astype(np.float32) / 255
        np.testing.assert_allclose(row.feature_vector, pixels.mean((0, 1)), atol=1e-5)
    [error] = errors.itertuples()
    assert error.uri == str(folder / "13.png")
    assert error.stage == "infer"
    assert "blinded by white" in error.message


def save_model_of_a_device(directory, device: pathlib.Path) -> None:
    """Works until it has seen an image that is white all over, and as long as `device` is whole.

    The white image removes nothing itself: a file `armed` in `device` must be there for it.
    """

    class Fragile(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32)])
        def __call__(self, images):
            # The sum keeps TensorFlow from looking for the files before there are images.
            nothing = tf.strings.substr(tf.strings.as_string(tf.reduce_sum(images)), 0, 0)
            there = [
                tf.size(tf.io.matching_files(tf.strings.join([str(device / name), nothing])))
                for name in ("armed", "broken")
            ]
            is_white = tf.reduce_any(tf.reduce_min(images, [1, 2, 3]) > 0.999)
            tf.cond(
                tf.logical_and(is_white, there[0] > 0),
                lambda: [tf.io.write_file(str(device / "broken"), ""), tf.constant(0)][1],
                lambda: tf.constant(0),
            )
            check = tf.debugging.Assert(there[1] == 0, ["the device is gone"])
            with tf.control_dependencies([check]):
                return tf.reduce_mean(images, [1, 2])

    tf.saved_model.save(Fragile(), str(directory))


def test_a_model_that_fails_on_all_fails_the_job_and_the_same_command_continues(run_here, tmp_path):
    device, folder, out = tmp_path / "device", tmp_path / "images", tmp_path / "out"
    device.mkdir(), folder.mkdir()
    save_model_of_a_device(tmp_path / "model", device)
    random = np.random.default_rng(0)
    for number in range(24):
        pixels = random.integers(0, 200, (16, 16, 3), dtype=np.uint8)
        if number == 13:
            pixels[:] = 255
        PIL.Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    command = ["--input", folder, "--output", out, "--model", tmp_path / "model"]
    command += ["--trust_model", "--batch_size", "2", "--rows_per_file", "4"]
    (device / "armed").touch()
    done = run_here(*command, "--direct_num_workers", "1")
    assert done.code == 1
    assert "the model fails on a blank image, too: assertion failed: [the device is gone]" in (
        done.err
    )
    assert "the same command continues" in done.err
    assert not (out / "_SUCCESS").exists()
    assert not (out / "_errors").exists() or not list((out / "_errors").iterdir())
    parts = {path.name for path in out.glob("part-*")}
    (device / "armed").unlink(), (device / "broken").unlink()
    done = run_here(*command, "--direct_num_workers", "1")
    assert done.code == 0, done.err
    assert (out / "_SUCCESS").exists()
    assert parts < {path.name for path in out.glob("part-*")}
    table = pd.read_parquet(out)
    assert sorted(table["id"]) == sorted(map(str, folder.iterdir()))


def test_an_image_that_overflows_is_an_error_row_and_verify_is_content(run_here, tmp_path, capfd):
    class Overflowing(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32)])
        def __call__(self, images):
            return 1.0 / (1.0 - tf.reduce_mean(images, [1, 2]))

    tf.saved_model.save(Overflowing(), str(tmp_path / "model"))
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for level in (0, 100, 200, 255):
        PIL.Image.new("RGB", (16, 16), (level, level, level)).save(folder / f"{level}.png")
    done = run_here("--input", folder, "--output", out, "--model", tmp_path / "model")
    assert done.code == 0, done.err
    assert "1 InfiniteAnswerError" in done.out
    assert len(pd.read_parquet(out)) == 3
    [error] = pd.read_parquet(out / "_errors").itertuples()
    assert (error.uri, error.message) == (str(folder / "255.png"), "the model answers infinity")
    assert verify.main([str(out)]) == 0
    assert capfd.readouterr().out.endswith("all is well\n")
