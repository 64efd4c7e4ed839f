"""Real photos through the whole program give the publisher's numbers."""

from __future__ import annotations

import pathlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from tests.helpers.vectors import cosine
from transforms.models import builtin

# The activations of a batch are most of the memory that the built-in model takes.
SMALL_BATCHES = ("--batch_size", "4")


@pytest.fixture(scope="module")
def reference(photos) -> dict[str, np.ndarray]:
    """Feature vector by photo, computed as the model's documentation says, one photo at a time."""
    model = hub.load(builtin.exported("feature_vector"))
    vectors = {}
    for path in photos:
        image = tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False)
        image = tf.image.convert_image_dtype(image, tf.float32)
        image = tf.image.resize(image, builtin.IMAGE_SIZE)
        vectors[str(path)] = model(image[tf.newaxis])[0].numpy()
    return vectors


def write_records(photos: list[pathlib.Path], path: pathlib.Path, compression: str) -> None:
    """The photos as tf.Examples, named and labelled."""
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for photo in photos:
            feature = {
                "image/encoded": [photo.read_bytes()],
                "image/filename": [str(photo).encode()],
                "image/format": [photo.suffix.encode()],
            }
            example = tf.train.Example(
                features=tf.train.Features(
                    feature={
                        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
                        for name, value in feature.items()
                    }
                )
            )
            writer.write(example.SerializeToString())


def test_parts_hold_the_vectors_that_hub_load_gives(photos, reference, run_here, tmp_path):
    done = run_here("--input", *photos, "--output", tmp_path / "out", *SMALL_BATCHES)
    assert done.code == 0, done.err
    table = pd.read_parquet(tmp_path / "out").set_index("id")
    assert sorted(table.index) == sorted(reference)
    for path, vector in reference.items():
        ours = table.loc[path, "feature_vector"]
        assert ours.dtype == np.float32 and ours.shape == (1280,)
        assert np.abs(ours - vector).max() <= 1e-4, path
        assert cosine(ours, vector) >= 0.999999, path


def test_rounded_pixels_stay_close(photos, reference, run_here, tmp_path):
    done = run_here(
        "--input", *photos, "--output", tmp_path / "out", *SMALL_BATCHES, "--pixels", "uint8"
    )
    assert done.code == 0, done.err
    table = pd.read_parquet(tmp_path / "out").set_index("id")
    cosines = {
        path: cosine(table.loc[path, "feature_vector"], reference[path]) for path in reference
    }
    worst = min(cosines, key=cosines.__getitem__)
    median = float(np.median(list(cosines.values())))
    print(f"uint8 pixels: cosine median {median:.6f}, min {cosines[worst]:.6f} ({worst})")
    # Rounding is within half a step, so a single photo's cosine is the model's doing: a smooth
    # micrograph of 102×102 pixels, enlarged, is the worst (0.972).
    assert median >= 0.9998
    assert cosines[worst] >= 0.95


@pytest.mark.parametrize(("name", "compression"), [("p.tfrecord", ""), ("p.tfrecord.gz", "GZIP")])
def test_the_same_photos_as_tfrecord_give_the_same_vectors(
    name, compression, photos, reference, run_here, tmp_path
):
    write_records(photos, tmp_path / name, compression)
    done = run_here(
        *("--input", tmp_path / name, "--output", tmp_path / "out"),
        *("--tfrecord_id_key", "image/filename", "--keep", "image/format"),
        *SMALL_BATCHES,
    )
    assert done.code == 0, done.err
    table = pd.read_parquet(tmp_path / "out").set_index("id")
    assert sorted(table.index) == sorted(reference)
    for path, vector in reference.items():
        assert np.abs(table.loc[path, "feature_vector"] - vector).max() <= 1e-4, path
        assert table.loc[path, "image/format"] == pathlib.Path(path).suffix


def test_the_cat_is_a_cat_and_the_espresso_an_espresso(photos, run_here, tmp_path):
    done = run_here(
        "--input", *photos, "--output", tmp_path / "out", *SMALL_BATCHES, "--task", "classification"
    )
    assert done.code == 0, done.err
    table = pd.read_parquet(tmp_path / "out")
    best = {pathlib.Path(row.id).name: row.top_k[0] for row in table.itertuples()}
    assert best["chelsea.png"]["label"] == "Egyptian cat"
    assert best["coffee.png"]["label"] == "espresso"
    logits = table.set_index("id").loc[table["id"][0], "logits"]
    top = table.set_index("id").loc[table["id"][0], "top_k"]
    assert logits.shape == (1000,)
    expected = tf.nn.softmax(logits).numpy()
    assert [entry["index"] for entry in top] == np.argsort(-expected)[:5].tolist()
    assert top[0]["score"] == pytest.approx(expected.max(), abs=1e-6)
