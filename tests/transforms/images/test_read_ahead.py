"""A shard to image batches: every ref once, in order, whatever is wrong with some of them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import gzip
import os
import pathlib
import subprocess
import threading
from collections.abc import Sequence

import apache_beam as beam
import numpy as np
import PIL.Image
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

import runners.direct
from tests.helpers.commands import PATIENCE_SECONDS, run_python
from tests.helpers.images import write_random_images
from transforms import shards, storage
from transforms.batches import (
    BatchPlace,
    FeatureBatch,
    ImageBatch,
    ImageRow,
    StageSeconds,
)
from transforms.coders import BatchCoder
from transforms.dataset.layout import part_name, part_path
from transforms.decode import DecodeShards
from transforms.images import read_ahead
from transforms.images.budget import ByteBudget
from transforms.images.read_ahead import decode_shard
from transforms.images.spec import ImageSpec
from transforms.infer import InferFeatures
from transforms.inputs import examples as tf_examples
from transforms.inputs.listing import list_images
from transforms.inputs.sampling import look_at
from transforms.models.source import ModelSource
from transforms.refs import ImageRef
from transforms.shards import Shard

SPEC = ImageSpec(height=16, width=16)


def file_ref(path: pathlib.Path | str, **attributes: object) -> ImageRef:
    version = storage.version(os.stat(path)) if os.path.exists(path) else "1"
    return ImageRef(id=str(path), uri=str(path), version=version, **attributes)


def shard_of(paths: Sequence[pathlib.Path | str]) -> Shard:
    return Shard(tuple(file_ref(path) for path in paths))


def reference_pixels(path: pathlib.Path | str, size: tuple[int, int] = (16, 16)) -> np.ndarray:
    """What the model contract says an image is: float32 [H, W, 3], by TensorFlow's public API."""
    import tensorflow as tf

    rgb = tf.io.decode_image(pathlib.Path(path).read_bytes(), channels=3, expand_animations=False)
    return tf.image.resize(tf.image.convert_image_dtype(rgb, tf.float32), size).numpy()


def write_examples(
    path: pathlib.Path, images: Sequence[bytes], compression: str = ""
) -> list[tuple[int, str, list[float]]]:
    """Writes Examples; returns the values of their features `label`, `name` and `box`."""
    import tensorflow as tf

    kept = [(number, f"image {number}", [number, number + 0.5]) for number in range(len(images))]
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for image, (label, name, box) in zip(images, kept, strict=True):
            features = {
                "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
                "box": tf.train.Feature(float_list=tf.train.FloatList(value=box)),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return kept


def decode_records(
    path: pathlib.Path, batch_size: int, spec: ImageSpec = SPEC, keep: Sequence[str] = ()
) -> list[ImageBatch]:
    listing = list_images([str(path)], "tfrecord")
    examples = tf_examples.ExampleSpec(keep=look_at([str(path)]).columns(list(keep)))
    [shard] = shards.group_into_shards(listing.refs, 1000)
    return list(decode_shard(shard, spec, batch_size, examples))


def open_paths() -> set[str]:
    """What this process has open now."""
    paths = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            paths.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return paths


# Order and completeness


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 4, [3]), (1, 1, [1]), (13, 2, [2] * 6 + [1])],
)
def test_batches_account_for_every_image_in_order_with_its_own_pixels(
    tmp_path: pathlib.Path, count: int, batch_size: int, sizes: list[int]
) -> None:
    shard = shard_of(write_random_images(tmp_path, count))
    batches = list(decode_shard(shard, SPEC, batch_size))

    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    places = [BatchPlace(shard.name, count, *at) for at in zip(starts, sizes, strict=True)]
    assert [batch.place for batch in batches] == places
    assert [row.ref for batch in batches for row in batch.rows] == list(shard.refs)
    assert {(row.width, row.height) for batch in batches for row in batch.rows} == {(20, 20)}
    images = np.concatenate([batch.images for batch in batches])
    np.testing.assert_array_equal(images, [reference_pixels(ref.uri) for ref in shard.refs])


def test_one_bad_image_is_one_error_row_and_the_others_keep_their_order(
    tmp_path: pathlib.Path,
) -> None:
    paths = write_random_images(tmp_path, 8)
    paths[5].write_bytes(paths[5].read_bytes()[:600])
    shard = shard_of(paths)
    first, second = decode_shard(shard, SPEC, 4)

    assert (len(first.rows), first.errors) == (4, ())
    assert [row.ref.id for row in second.rows] == [str(paths[i]) for i in (4, 6, 7)]
    np.testing.assert_array_equal(second.images, [reference_pixels(paths[i]) for i in (4, 6, 7)])
    [error] = second.errors
    assert (error.id, error.uri, error.version) == (
        str(paths[5]),
        str(paths[5]),
        storage.version(os.stat(paths[5])),
    )
    assert (error.stage, error.error_type) == ("decode", "CorruptImageError")
    assert second.place == BatchPlace(shard.name, 8, 4, 4)


def test_a_batch_of_only_bad_images_is_empty_in_the_models_shape(tmp_path: pathlib.Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for path in paths:
        path.write_bytes(b"this is no image")
    [batch] = decode_shard(shard_of(paths), ImageSpec(height=16, width=24), 4)
    assert batch.images.shape == (0, 16, 24, 3)
    assert len(batch) == 0
    assert [error.id for error in batch.errors] == [str(path) for path in paths]
    assert {error.error_type for error in batch.errors} == {"NotAnImageError"}
    assert batch.place.size == 3


# Pixels


def test_unresized_images_stay_uint8_and_resized_ones_are_float32(tmp_path: pathlib.Path) -> None:
    unresized = write_random_images(tmp_path / "a", 3, size=16)
    resized = write_random_images(tmp_path / "b", 3, size=17)
    [plain] = decode_shard(shard_of(unresized), SPEC, 4)
    [scaled] = decode_shard(shard_of(resized), SPEC, 4)

    assert plain.images.dtype == np.uint8
    np.testing.assert_array_equal(
        plain.images, [np.asarray(PIL.Image.open(path)) for path in unresized]
    )
    assert scaled.images.dtype == np.float32
    np.testing.assert_array_equal(scaled.images, [reference_pixels(path) for path in resized])


@pytest.mark.parametrize("bad", [None, 0, 3])
def test_a_mixed_batch_is_float32_as_convert_image_dtype_makes_it(
    tmp_path: pathlib.Path, bad: int | None
) -> None:
    import tensorflow as tf

    unresized = write_random_images(tmp_path / "a", 3, size=16)
    resized = write_random_images(tmp_path / "b", 3, size=17)
    paths = [path for pair in zip(unresized, resized, strict=True) for path in pair]
    if bad is not None:
        paths[bad].write_bytes(b"")
    [batch] = decode_shard(shard_of(paths), SPEC, 6)

    assert batch.images.dtype == np.float32
    good = [path for number, path in enumerate(paths) if number != bad]
    assert [row.ref.uri for row in batch.rows] == [str(path) for path in good]
    for pixels, path in zip(batch.images, good, strict=True):
        expected = reference_pixels(path)
        if path in unresized:
            rgb = np.asarray(PIL.Image.open(path))
            expected = tf.image.convert_image_dtype(rgb, tf.float32).numpy()
        np.testing.assert_array_equal(pixels, expected)


def test_rounded_pixels_are_uint8_though_they_were_resized(tmp_path: pathlib.Path) -> None:
    paths = write_random_images(tmp_path, 2, size=17)
    [batch] = decode_shard(shard_of(paths), ImageSpec(16, 16, pixels="uint8"), 2)
    assert batch.images.dtype == np.uint8
    exact = np.stack([reference_pixels(path) for path in paths])
    assert np.abs(batch.images / 255.0 - exact).max() <= 0.5 / 255.0 + 1e-6


# What cannot be read


def test_a_ref_with_a_problem_becomes_a_read_error_that_tells_it(tmp_path: pathlib.Path) -> None:
    [path] = write_random_images(tmp_path, 1)
    refs = (file_ref(path), file_ref(tmp_path / "locked", problem="the directory is locked"))
    [batch] = decode_shard(Shard(refs), SPEC, 4)
    assert [row.ref for row in batch.rows] == [refs[0]]
    [error] = batch.errors
    assert error.id == refs[1].id
    assert (error.stage, error.error_type) == ("read", "UnusableInputError")
    assert error.message == "the directory is locked"


def test_files_that_cannot_be_read_say_why(tmp_path: pathlib.Path) -> None:
    good, large = write_random_images(tmp_path, 2)
    large.write_bytes(large.read_bytes() + bytes(5000))
    missing, directory, empty = tmp_path / "gone.png", tmp_path / "d.png", tmp_path / "empty.png"
    directory.mkdir()
    empty.touch()
    spec = ImageSpec(16, 16, max_file_bytes=good.stat().st_size)
    shard = shard_of([missing, directory, good, large, empty])
    [batch] = decode_shard(shard, spec, 8)

    assert [row.ref.uri for row in batch.rows] == [str(good)]
    told = {pathlib.Path(error.uri).name: (error.stage, error.error_type) for error in batch.errors}
    assert told == {
        "gone.png": ("read", "FileNotFoundError"),
        "d.png": ("read", "IsADirectoryError"),
        large.name: ("read", "ImageTooLargeError"),
        "empty.png": ("decode", "EmptyImageError"),
    }
    messages = {error.error_type: error.message for error in batch.errors}
    assert "No such file" in messages["FileNotFoundError"]
    assert f"more than max_file_bytes {spec.max_file_bytes}" in messages["ImageTooLargeError"]


# Records


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_records_are_decoded_in_order_with_their_kept_values(
    tmp_path: pathlib.Path, compression: str
) -> None:
    paths = write_random_images(tmp_path, 7)
    records = tmp_path / "data.tfrecord"
    kept = write_examples(records, [path.read_bytes() for path in paths], compression)
    batches = decode_records(records, 3, keep=["label", "name", "box"])

    assert [(batch.place.start, batch.place.size) for batch in batches] == [(0, 3), (3, 3), (6, 1)]
    rows = [row for batch in batches for row in batch.rows]
    assert [row.ref.id for row in rows] == [f"{records}#{number}" for number in range(7)]
    assert [row.kept for row in rows] == kept
    images = np.concatenate([batch.images for batch in batches])
    np.testing.assert_array_equal(images, [reference_pixels(path) for path in paths])


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_a_damaged_record_costs_that_record_only(tmp_path: pathlib.Path, compression: str) -> None:
    images = [path.read_bytes() for path in write_random_images(tmp_path, 6)]
    images[4] = b"no image"
    records = tmp_path / "data.tfrecord"
    write_examples(records, images)
    data = bytearray(records.read_bytes())
    data[data.index(images[2]) + 500] ^= 1
    records.write_bytes(gzip.compress(data) if compression else data)
    [batch] = decode_records(records, 8, keep=["label"])

    assert [(row.ref.record_index, row.kept) for row in batch.rows] == [
        (number, (number,)) for number in (0, 1, 3, 5)
    ]
    errors = [(error.id, error.stage, error.error_type) for error in batch.errors]
    assert errors == [
        (f"{records}#2", "read", "RecordError"),
        (f"{records}#4", "decode", "NotAnImageError"),
    ]
    assert "checksum" in batch.errors[0].message
    assert batch.place.size == 6


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_a_cut_off_file_gives_its_whole_records_and_one_error(
    tmp_path: pathlib.Path, compression: str
) -> None:
    images = [path.read_bytes() for path in write_random_images(tmp_path, 6)]
    records = tmp_path / "data.tfrecord"
    write_examples(records, images, compression)
    records.write_bytes(records.read_bytes()[:-900])
    [batch] = decode_records(records, 8)
    assert [row.ref.record_index for row in batch.rows] == [0, 1, 2, 3, 4]
    [error] = batch.errors
    assert (error.id, error.error_type) == (f"{records}#5", "RecordError")
    assert "cut off" in error.message


def test_a_record_over_the_limit_is_an_error_row(tmp_path: pathlib.Path) -> None:
    images = [path.read_bytes() for path in write_random_images(tmp_path, 3)]
    images[1] += bytes(5000)
    records = tmp_path / "data.tfrecord"
    write_examples(records, images)
    [batch] = decode_records(records, 8, ImageSpec(16, 16, max_file_bytes=len(images[0]) + 500))
    assert [row.ref.record_index for row in batch.rows] == [0, 2]
    assert [(error.stage, error.error_type) for error in batch.errors] == [
        ("read", "ImageTooLargeError")
    ]


def test_a_container_that_vanished_is_one_error_row_a_record(tmp_path: pathlib.Path) -> None:
    images = [path.read_bytes() for path in write_random_images(tmp_path, 5)]
    records = tmp_path / "data.tfrecord"
    write_examples(records, images)
    [shard] = shards.group_into_shards(list_images([str(records)]).refs, 100)
    records.unlink()
    batches = list(decode_shard(shard, SPEC, 2))
    errors = [error for batch in batches for error in batch.errors]
    assert [error.id for error in errors] == [ref.id for ref in shard.refs]
    assert {(error.stage, error.error_type) for error in errors} == {("read", "FileNotFoundError")}


# A consumer that stops


def test_a_consumer_that_stops_early_leaves_no_container_open(tmp_path: pathlib.Path) -> None:
    images = [path.read_bytes() for path in write_random_images(tmp_path, 12)]
    records = tmp_path / "data.tfrecord"
    write_examples(records, images)
    [shard] = shards.group_into_shards(list_images([str(records)]).refs, 100)
    batches = decode_shard(shard, SPEC, 2)
    next(batches)
    assert str(records) in open_paths()
    batches.close()
    assert str(records) not in open_paths()


def test_a_consumer_that_stops_early_leaves_no_image_waiting_to_be_decoded(
    tmp_path: pathlib.Path,
) -> None:
    """Named pipes hold the decoding threads up for as long as the test wants."""
    threads = os.cpu_count() or 1
    good = write_random_images(tmp_path, threads)
    busy = [tmp_path / f"busy-{number}.png" for number in range(threads)]
    waiting = [tmp_path / f"waiting-{number}.png" for number in range(threads)]
    for path in [*busy, *waiting]:
        os.mkfifo(path)
    batches = decode_shard(shard_of([*good, *busy, *waiting]), SPEC, threads)
    with concurrent.futures.ThreadPoolExecutor(1) as another_thread:
        assert len(next(batches)) == threads
        writers = [os.open(path, os.O_WRONLY) for path in busy]  # each has its reader now
        batches.close()
        for writer in writers:
            os.close(writer)
        after = another_thread.submit(list, decode_shard(shard_of(good), SPEC, threads))
        try:
            [batch] = after.result(PATIENCE_SECONDS)
            assert len(batch) == threads
            assert not [path for path in open_paths() if path.endswith(".png")]
        finally:
            for path in waiting:  # lets threads go that should not be there
                with contextlib.suppress(OSError):
                    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


STOPS_EARLY = """
import sys
from transforms import shards
from transforms.images.read_ahead import decode_shard
from transforms.images.spec import ImageSpec
from transforms.inputs.listing import list_images

[shard] = shards.group_into_shards(list_images([sys.argv[1]]).refs, 1000)
batches = decode_shard(shard, ImageSpec(height=16, width=16), 100)
print(len(next(batches).rows))
"""


def test_a_process_whose_consumer_stops_early_ends(tmp_path: pathlib.Path) -> None:
    """No thread that reads waits for room that nobody gives back."""
    write_random_images(tmp_path, 400)
    done = run_python(STOPS_EARLY, tmp_path, stderr=subprocess.DEVNULL)
    assert (done.code, done.out) == (0, "100\n")


# Through Beam


class CountingBudget(ByteBudget):
    """Knows the most that was in use."""

    most = 0

    def acquire(self, size: int, blocking: bool = True) -> bool:
        acquired = super().acquire(size, blocking)
        if acquired:
            self.most = max(self.most, self._acquired)
        return acquired


@pytest.mark.parametrize("room_for", [1, 3, 1000], ids="room for {} batches".format)
def test_what_is_read_ahead_is_bounded_for_all_bundles_together(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, room_for: int
) -> None:
    """17 bundles at once, as on 64 cores, each with up to 9 batches."""
    paths = write_random_images(tmp_path / "images", 40, suffix=".jpg")
    batch_bytes = 2 * 16 * 16 * 3 * 5
    file_bytes = max(path.stat().st_size for path in paths)
    pools = dataclasses.replace(
        read_ahead._pools(),
        batches=CountingBudget(room_for * batch_bytes),
        encoded=CountingBudget(2 * file_bytes),
    )
    monkeypatch.setattr(read_ahead, "_pools", lambda: pools)
    alone = [
        [dataclasses.replace(file_ref(path), size=path.stat().st_size) for path in paths[at::17]]
        for at in range(17)
    ]
    together = threading.Barrier(17)

    def bundle(refs: list[ImageRef]) -> list[str]:
        together.wait(PATIENCE_SECONDS)
        return [
            row.ref.id for batch in decode_shard(Shard(tuple(refs)), SPEC, 2) for row in batch.rows
        ]

    with concurrent.futures.ThreadPoolExecutor(17) as bundles:
        done = list(bundles.map(bundle, alone, timeout=PATIENCE_SECONDS))
    assert done == [[ref.id for ref in refs] for refs in alone]
    assert 0 < pools.batches.most <= room_for * batch_bytes
    assert 0 < pools.encoded.most <= 2 * file_bytes
    assert (pools.batches._acquired, pools.encoded._acquired) == (0, 0)


@pytest.mark.parametrize("stop", ["close", "fail"])
def test_a_bundle_that_ends_early_gives_its_room_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    paths = write_random_images(tmp_path / "images", 8)
    pools = dataclasses.replace(read_ahead._pools(), batches=ByteBudget(2**30))
    monkeypatch.setattr(read_ahead, "_pools", lambda: pools)
    batches = decode_shard(shard_of(paths), SPEC, 2)
    next(batches)
    assert pools.batches._acquired == 3 * 2 * 16 * 16 * 3 * 5
    if stop == "close":
        batches.close()
    else:
        with pytest.raises(ZeroDivisionError):
            batches.throw(ZeroDivisionError)
    assert pools.batches._acquired == 0


def run(pipeline: beam.Pipeline) -> dict[str, int]:
    """Runs the pipeline; returns its counters."""
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter())["counters"]
    return {counter.key.metric.name: counter.result for counter in counters}


def new_pipeline() -> beam.Pipeline:
    options = PipelineOptions([])
    return beam.Pipeline(runner=runners.direct.create(options), options=options)


def test_a_committed_shard_is_passed_over(tmp_path: pathlib.Path) -> None:
    refs = [file_ref(path) for path in write_random_images(tmp_path / "images", 12)]
    planned = [Shard(tuple(refs[at : at + 4])) for at in (0, 4, 8)]
    pointers = shards.write_plan(planned, str(tmp_path / "plan"), "p")
    out = tmp_path / "out"
    out.mkdir()
    (out / part_name(pointers[1].name)).touch()

    pipeline = new_pipeline()
    committed_path = functools.partial(part_path, str(out))
    batches = (
        pipeline
        | beam.Create(pointers)
        | DecodeShards(SPEC, 2, part_path=committed_path)
        | beam.Map(lambda batch: (batch.place.shard, batch.place.start, len(batch)))
    )
    expected = [
        (pointer.name, start, 2) for pointer in (pointers[0], pointers[2]) for start in (0, 2)
    ]
    assert_that(batches, equal_to(expected))
    assert run(pipeline)["shards_already_committed"] == 1


def test_batches_have_their_own_types_and_coder_in_a_pipeline(tiny_model: pathlib.Path) -> None:
    images = new_pipeline() | beam.Create([], reshuffle=False) | DecodeShards(SPEC)
    features = images | InferFeatures(ModelSource(str(tiny_model)))
    assert images.element_type is ImageBatch
    assert features.element_type is FeatureBatch
    for element_type in (ImageBatch, FeatureBatch):
        assert isinstance(beam.coders.registry.get_coder(element_type), BatchCoder)


# The coder


def image_batch(*kept: object) -> ImageBatch:
    ref = file_ref("a.png")
    images = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
    place = BatchPlace("shard", 5, 2, 1)
    return ImageBatch(images, (ImageRow(ref, 20, 30, kept),), (), place, StageSeconds(0.5, 0.25))


def test_the_coder_gives_a_batch_back(tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    [decoded] = decode_shard(
        shard_of([*write_random_images(tmp_path, 3), tmp_path / "bad.png"]), SPEC, 8
    )
    answered = FeatureBatch(
        np.ones((3, 8), np.float32),
        decoded.rows,
        decoded.errors,
        decoded.place,
        StageSeconds(1.0, 2.0, 3.0),
    )
    whole = np.empty(2, object)
    whole[:] = b"GIF", b""
    undecoded = dataclasses.replace(decoded, images=whole)
    kept = image_batch("\udcff", b"\x00\xff", 1, [0.5, float("inf")], [b"a"], [], None)
    flags = dataclasses.replace(answered, features=np.eye(3, dtype=bool))
    for batch in (decoded, kept, undecoded, answered, flags):
        again = BatchCoder().decode(BatchCoder().encode(batch))
        assert type(again) is type(batch)
        for name, value in vars(batch).items():
            np.testing.assert_array_equal(getattr(again, name), value, strict=True)


def estimates(batch: ImageBatch | FeatureBatch) -> list[int]:
    """The size as a user of the coder and as Beam's operation counters ask for it."""
    coder = beam.coders.registry.get_coder(type(batch))
    return [
        coder.estimate_size(batch),
        coder.get_impl().estimate_size(batch),
        coder.get_impl().get_estimated_size_and_observables(batch)[0],
    ]


def test_the_size_of_a_batch_is_about_that_of_its_array() -> None:
    images = image_batch()
    features = FeatureBatch(np.ones((1, 1280), np.float32), images.rows, (), images.place)
    for batch, array in ((images, images.images), (features, features.features)):
        for size in estimates(batch):
            assert array.nbytes <= size <= array.nbytes + 1000


def test_the_size_of_a_batch_is_told_without_encoding_it() -> None:
    batch = image_batch(threading.Lock())
    with pytest.raises(TypeError, match="serializable"):
        BatchCoder().encode(batch)
    for size in estimates(batch):
        assert size >= batch.images.nbytes


def test_beam_does_not_encode_batches_that_stay_in_a_stage() -> None:
    pipeline = new_pipeline()
    counts = (
        pipeline
        | beam.Create([1, 2, 3], reshuffle=False)
        | beam.Map(lambda _: image_batch(threading.Lock())).with_output_types(ImageBatch)
        | beam.Map(len)
    )
    assert_that(counts, equal_to([1, 1, 1]))
    run(pipeline)
