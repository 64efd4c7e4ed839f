"""The model on image batches: the published model's numbers, and one bad image at a time."""

from __future__ import annotations

import concurrent.futures
import logging
import pathlib
import pickle
import shutil
import threading
import uuid
from collections.abc import Callable, Sequence

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

import runners.direct
from tests.helpers.commands import PATIENCE_SECONDS
from tests.helpers.images import write_random_images
from tests.helpers.tiny_model import TINY_SIZE, TINY_WIDTH, save_tiny_model
from transforms import engines, shards
from transforms.batches import BatchPlace, FeatureBatch, ImageBatch, ImageRow, StageSeconds
from transforms.decode import DecodeShards
from transforms.engines import tensorflow as tensorflow_engine
from transforms.engines.bisection import ModelFailedError
from transforms.errors import (
    CorruptImageError,
    Parameter,
    UserError,
    error_row,
)
from transforms.images.read_ahead import decode_shard
from transforms.images.spec import ImageSpec
from transforms.infer import InferFeatures, SavedModelHandler, infer
from transforms.models import loading
from transforms.models.source import ModelSource, Task
from transforms.refs import ImageRef

SHAPE = (TINY_SIZE, TINY_SIZE, 3)


def save_model(
    directory: pathlib.Path, answer: Callable, resource: Callable[[], object] | None = None
) -> ModelSource:
    """Saves a callable SavedModel: `answer(module, images)`, with a kernel [3, 8] to use.

    Args:
      answer: traced into the model's function.
      resource: makes something else that the model owns, as `module.resource`.
    """
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(tf.random.stateless_normal([3, TINY_WIDTH], [1, 2]))
            self.resource = resource() if resource else None

        @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32)])
        def __call__(self, images):
            return answer(self, images)

    tf.saved_model.save(Model(), str(directory))
    return ModelSource(str(directory), trusted=True)


def colour_vector(module, images):
    import tensorflow as tf

    return tf.reduce_mean(images, [1, 2]) @ module.kernel


def picky_vector(module, images):
    """Fails on a batch with an image that is too bright, as a data-dependent check would."""
    import tensorflow as tf

    bright = tf.reduce_max(tf.reduce_mean(images, [1, 2, 3]))
    tf.debugging.Assert(bright <= 0.9, ["an image is too bright:", bright])
    return colour_vector(module, images)


@pytest.fixture(scope="module")
def picky_model(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return save_model(tmp_path_factory.mktemp("model") / "picky", picky_vector)


def random_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *SHAPE), np.float32)


def image_batch(images: np.ndarray, errors: Sequence[int] = (), start: int = 0) -> ImageBatch:
    """A batch of `images` and as many error rows as `errors` has ids."""
    refs = [ImageRef(f"{start + number}", "a.png", "1") for number in range(len(images))]
    bad = [ImageRef(f"bad {number}", "b.png", "1") for number in errors]
    return ImageBatch(
        images,
        tuple(ImageRow(ref, 20, 30) for ref in refs),
        tuple(error_row(ref, "decode", CorruptImageError("cut off")) for ref in bad),
        BatchPlace("shard", 1000, start, len(images) + len(bad)),
        seconds=StageSeconds(read=0.5, decode=0.25),
    )


def run_inference(source: ModelSource, *batches: ImageBatch) -> list[FeatureBatch]:
    """The handler's answers, outside of a pipeline."""
    handler = SavedModelHandler(source).with_no_batching()
    engine = handler.load_model()
    return [answer for batch in batches for answer in handler.run_inference(batch, engine)]


def new_pipeline(*flags: str) -> beam.Pipeline:
    options = PipelineOptions(flags)
    return beam.Pipeline(runner=runners.direct.create(options), options=options)


class Collect(beam.PTransform):
    """Writes each element into `directory`, where the test reads them after the run."""

    def __init__(self, directory: pathlib.Path):
        super().__init__()
        self._directory = directory
        directory.mkdir()

    def expand(self, elements):
        directory = self._directory

        def write(element):
            (directory / uuid.uuid4().hex).write_bytes(pickle.dumps(element))

        return elements | beam.Map(write)

    def elements(self) -> list:
        return [pickle.loads(path.read_bytes()) for path in self._directory.iterdir()]


def infer_files(
    paths: Sequence[pathlib.Path],
    source: ModelSource,
    spec: ImageSpec,
    directory: pathlib.Path,
    rows_per_file: int = 1000,
    flags: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Vector by id, of image files through decoding and RunInference in a pipeline."""
    refs = [ImageRef(str(path), str(path), "1") for path in paths]
    planned = shards.group_into_shards(refs, rows_per_file)
    pointers = shards.write_plan(planned, str(directory / "plan"), "p")
    pipeline = new_pipeline(*flags)
    collect = Collect(directory / "answers")
    decoded = pipeline | beam.Create(pointers) | DecodeShards(spec, batch_size=4)
    decoded | InferFeatures(source) | collect
    pipeline.run().wait_until_finish()
    vectors = {}
    for batch in collect.elements():
        assert batch.features.dtype == np.float32
        assert len(batch.features) == len(batch.rows)
        vectors.update(
            {row.ref.id: vector for row, vector in zip(batch.rows, batch.features, strict=True)}
        )
    return vectors


def published_answers(
    directory: str, paths: Sequence[pathlib.Path], size: tuple[int, int]
) -> np.ndarray:
    """What a user gets from `hub.load` and TensorFlow's public image functions."""
    import tensorflow as tf
    import tensorflow_hub as hub

    images = [
        tf.image.resize(
            tf.image.convert_image_dtype(
                tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False),
                tf.float32,
            ),
            size,
        )
        for path in paths
    ]
    return hub.load(directory)(tf.stack(images)).numpy()


# The same numbers as the published model


@pytest.mark.parametrize("size", [16, 20])
def test_a_pipeline_gives_the_vectors_of_hub_load(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, size: int
) -> None:
    paths = write_random_images(tmp_path / "images", 10, size)
    source = ModelSource(str(tiny_model))
    vectors = infer_files(paths, source, ImageSpec(TINY_SIZE, TINY_SIZE), tmp_path)
    expected = published_answers(str(tiny_model), paths, (TINY_SIZE, TINY_SIZE))
    assert expected.shape == (10, TINY_WIDTH)
    np.testing.assert_allclose([vectors[str(path)] for path in paths], expected, atol=1e-5)


@pytest.mark.parametrize(("task", "width"), [("feature_vector", 1280), ("classification", 1000)])
def test_the_builtin_model_gives_the_vectors_of_hub_load(
    tmp_path: pathlib.Path, photos: list[pathlib.Path], task: Task, width: int
) -> None:
    source = ModelSource(task=task)
    paths = sorted(photos)[:3]
    vectors = infer_files(paths, source, ImageSpec(224, 224), tmp_path)
    expected = published_answers(source.local_path(), paths, (224, 224))
    assert expected.shape == (3, width)
    np.testing.assert_allclose([vectors[str(path)] for path in paths], expected, atol=1e-5)


@pytest.mark.parametrize("model", ["tiny", "builtin"])
def test_a_uint8_batch_gives_the_numbers_of_its_float_version(
    tiny_model: pathlib.Path, model: str
) -> None:
    import tensorflow as tf

    source = ModelSource(str(tiny_model)) if model == "tiny" else ModelSource()
    size = TINY_SIZE if model == "tiny" else 64
    pixels = np.random.default_rng(0).integers(0, 256, (5, size, size, 3), dtype=np.uint8)
    floats = tf.image.convert_image_dtype(pixels, tf.float32).numpy()
    of_bytes, of_floats = run_inference(source, image_batch(pixels), image_batch(floats))
    # The pixels are bit-equal; TensorFlow then fuses the conversion with the first convolution.
    np.testing.assert_allclose(of_bytes.features, of_floats.features, rtol=1e-5, atol=1e-5)


def test_freezing_changes_no_number(tiny_model: pathlib.Path) -> None:
    source = ModelSource(str(tiny_model))
    images = random_images(7)
    frozen = tensorflow_engine.TensorFlowEngine(loading.load_model(source))(images)
    np.testing.assert_allclose(
        frozen, loading.load_model(source).call(images), rtol=1e-6, atol=1e-6
    )


def test_an_engine_takes_batches_of_any_length_and_of_several_sizes() -> None:
    engine = engines.load(ModelSource())
    images = np.random.default_rng(0).random((3, 64, 96, 3), np.float32)
    together = engine(images)
    assert together.shape == (3, 1280)
    np.testing.assert_allclose(together, [engine(image[None])[0] for image in images], atol=1e-4)
    assert engine(images[:, :, :64]).shape == (3, 1280)


def test_a_model_that_counts_its_calls_runs_though_it_cannot_be_frozen(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    import tensorflow as tf

    def counting_vector(module, images):
        module.resource.assign_add(1.0)
        return colour_vector(module, images)

    source = save_model(tmp_path / "m", counting_vector, lambda: tf.Variable(0.0))
    images = random_images(5)
    with caplog.at_level(logging.WARNING):
        [answer] = run_inference(source, image_batch(images))
    assert "cannot be frozen" in caplog.text
    assert answer.errors == ()
    np.testing.assert_allclose(answer.features, loading.load_model(source).call(images), atol=1e-6)


def test_a_model_with_a_lookup_table_runs(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    def table():
        keys, values = tf.constant([0, 1], tf.int64), tf.constant([5.0, 7.0])
        return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1.0)

    def looked_up_vector(module, images):
        bright = tf.reduce_mean(images, [1, 2, 3], keepdims=True)[:, :, 0, 0] > 0.5
        return colour_vector(module, images) + module.resource.lookup(tf.cast(bright, tf.int64))

    source = save_model(tmp_path / "m", looked_up_vector, table)
    images = random_images(5)
    expected = loading.load_model(source).call(tf.constant(images))
    [answer] = run_inference(source, image_batch(images))
    assert [error.message for error in answer.errors] == []
    np.testing.assert_allclose(answer.features, expected, atol=1e-6)


def test_a_signature_only_model_gives_its_signatures_numbers(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    inputs = tf.keras.Input(SHAPE)
    hidden = tf.keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    outputs = tf.keras.layers.Dense(8)(tf.keras.layers.GlobalAveragePooling2D()(hidden))
    keras = tf.keras.Model(inputs, outputs)
    keras.export(str(tmp_path / "m"), verbose=False)
    images = random_images(4)
    [answer] = run_inference(ModelSource(str(tmp_path / "m")), image_batch(images))
    np.testing.assert_allclose(answer.features, keras(images), atol=1e-5)


# What a batch carries on


def test_rows_errors_place_and_times_go_with_the_vectors(tiny_model: pathlib.Path) -> None:
    batch = image_batch(random_images(6), errors=[3, 4], start=32)
    [answer] = run_inference(ModelSource(str(tiny_model)), batch)
    assert answer.features.shape == (6, TINY_WIDTH)
    assert (answer.rows, answer.errors, answer.place) == (batch.rows, batch.errors, batch.place)
    assert (answer.seconds.read, answer.seconds.decode) == (0.5, 0.25)
    assert answer.seconds.infer > 0
    assert len(answer) == 6


def test_the_handler_tells_a_batch_s_bytes_without_pickling_it(tiny_model: pathlib.Path) -> None:
    batch = image_batch(np.zeros((6, *SHAPE), np.uint8))
    unpicklable = ImageBatch(
        batch.images,
        tuple(ImageRow(row.ref, 1, 1, (threading.Lock(),)) for row in batch.rows),
        (),
        batch.place,
    )
    handler = SavedModelHandler(ModelSource(str(tiny_model))).with_no_batching()
    assert handler.get_num_bytes(unpicklable) == 6 * 16 * 16 * 3


def test_run_inference_does_not_pickle_the_batches(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    def make(number):
        row = ImageRow(ImageRef(str(number), "a.png", "1"), 1, 1, (threading.Lock(),))
        return ImageBatch(np.ones((1, *SHAPE), np.float32), (row,), (), BatchPlace("s", 1, 0, 1))

    pipeline = new_pipeline()
    batches = (
        pipeline
        | beam.Create([1, 2, 3], reshuffle=False)
        | beam.Map(make).with_output_types(ImageBatch)
        | InferFeatures(ModelSource(str(tiny_model)))
    )
    assert_that(batches | beam.Map(lambda batch: batch.features.shape), equal_to([(1, 8)] * 3))
    pipeline.run().wait_until_finish()


def test_the_handler_works_in_anybodys_run_inference(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    source = ModelSource(str(tiny_model))
    batches = [image_batch(random_images(2, seed), start=2 * seed) for seed in range(3)]
    pipeline = new_pipeline()
    collect = Collect(tmp_path / "answers")
    handler = SavedModelHandler(source).with_no_batching()
    pipeline | beam.Create(batches) | RunInference(handler) | collect
    pipeline.run().wait_until_finish()
    answers = sorted(collect.elements(), key=lambda answer: answer.place.start)
    expected = loading.load_model(source).call(np.concatenate([batch.images for batch in batches]))
    np.testing.assert_allclose(
        np.concatenate([answer.features for answer in answers]), expected, atol=1e-5
    )


# Images on which the model fails


@pytest.mark.parametrize("bad", [[13], [0], [31], [0, 7, 8, 31], [4, 5, 6, 7], list(range(1, 32))])
def test_exactly_the_images_that_the_model_fails_on_become_error_rows(
    picky_model: ModelSource, bad: list[int]
) -> None:
    images = random_images(32)
    images[bad] = 1.0
    batch = image_batch(images, errors=[7])
    [answer] = run_inference(picky_model, batch)

    good = [number for number in range(32) if number not in bad]
    assert [row.ref.id for row in answer.rows] == [str(number) for number in good]
    kept, *errors = answer.errors
    assert kept == batch.errors[0]
    assert [(error.id, error.stage, error.error_type) for error in errors] == [
        (str(number), "infer", "InferenceError") for number in bad
    ]
    assert all("an image is too bright" in error.message for error in errors)
    assert len(answer.rows) + len(answer.errors) == answer.place.size
    expected = loading.load_model(picky_model).call(images[good])
    np.testing.assert_allclose(answer.features, expected, atol=1e-6)


def test_in_a_pipeline_a_bright_image_costs_itself_only(
    tmp_path: pathlib.Path, picky_model: ModelSource
) -> None:
    paths = write_random_images(tmp_path / "images", 9)
    import PIL.Image

    PIL.Image.new("RGB", (20, 20), "white").save(paths[5])
    vectors = infer_files(paths, picky_model, ImageSpec(TINY_SIZE, TINY_SIZE), tmp_path)
    good = [path for number, path in enumerate(paths) if number != 5]
    assert sorted(vectors) == [str(path) for path in good]
    expected = published_answers(picky_model.name, good, (TINY_SIZE, TINY_SIZE))
    np.testing.assert_allclose([vectors[str(path)] for path in good], expected, atol=1e-5)


# A model that fails on whatever it is given


class Breaking:
    """The engine of a real model, on a device that may go: from a call on it answers no more.

    Args:
      source: the model.
      fails_at: the numbers of the calls that fail, from 1.
      failure: what is raised then.
    """

    def __init__(self, source: ModelSource, fails_at: Callable[[int], bool], failure: Exception):
        self._engine = engines.load(source)
        self._fails_at = fails_at
        self._failure = failure
        self.model = self._engine.model
        self.calls = 0
        self.blanks = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.calls += 1
        self.blanks += not images.any() if images.dtype != object else 0
        if self._fails_at(self.calls):
            raise self._failure
        return self._engine(images)


GONE = RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS:\nthe device is gone")


def test_a_model_that_fails_from_some_batch_on_fails_the_bundle(tiny_model: pathlib.Path) -> None:
    engine = Breaking(ModelSource(str(tiny_model)), lambda call: call > 2, GONE)
    for start in (0, 8):
        assert len(infer(image_batch(random_images(8, start)), engine)) == 8
    with pytest.raises(ModelFailedError) as info:
        infer(image_batch(random_images(8)), engine)
    message = "fails on a blank image, too: CUDA_ERROR_ILLEGAL_ADDRESS: the device is gone"
    assert str(info.value) == f"the model {message}"
    assert str(pickle.loads(pickle.dumps(info.value))) == str(info.value)


def test_a_model_that_fails_in_the_middle_of_a_batch_leaves_no_error_rows(
    tiny_model: pathlib.Path,
) -> None:
    """The batch fails, its first half works, and then the device goes."""
    engine = Breaking(ModelSource(str(tiny_model)), lambda call: call != 2, GONE)
    with pytest.raises(ModelFailedError):
        infer(image_batch(random_images(8)), engine)


@pytest.mark.parametrize("name", ["ResourceExhaustedError", "UnavailableError", "InternalError"])
def test_an_image_on_which_the_machine_failed_for_a_moment_is_tried_again(
    tiny_model: pathlib.Path, name: str
) -> None:
    """All images work alone but the first, which works a moment later: no error row."""
    import tensorflow as tf

    source = ModelSource(str(tiny_model))
    images = random_images(4)
    failure = getattr(tf.errors, name)(None, None, "for a moment")
    # 4 images, 2, 1 fail; then a blank and the image again.
    engine = Breaking(source, lambda call: call <= 3, failure)
    answer = infer(image_batch(images), engine)
    assert (len(answer), answer.errors, engine.blanks) == (4, (), 1)
    np.testing.assert_allclose(answer.features, engines.load(source)(images), atol=1e-6)


def test_a_machine_without_memory_for_a_blank_image_fails_the_bundle(
    tiny_model: pathlib.Path,
) -> None:
    """Although another image of the batch worked before, and one does afterwards."""
    failing = {1, 3, 4, 5}
    engine = Breaking(ModelSource(str(tiny_model)), failing.__contains__, MemoryError())
    with pytest.raises(ModelFailedError, match="too: MemoryError"):
        infer(image_batch(random_images(4)), engine)


def test_a_bad_image_among_good_ones_costs_no_blank_image(picky_model: ModelSource) -> None:
    images = random_images(8)
    images[3] = 1.0
    engine = Breaking(picky_model, lambda call: False, GONE)
    assert len(infer(image_batch(images), engine).errors) == 1
    assert engine.blanks == 0


def test_a_batch_of_bad_images_is_error_rows_and_costs_one_blank_image(
    picky_model: ModelSource,
) -> None:
    engine = Breaking(picky_model, lambda call: False, GONE)
    answer = infer(image_batch(np.ones((8, *SHAPE), np.float32)), engine)
    assert (len(answer), len(answer.errors), engine.blanks) == (0, 8, 1)


def test_a_model_that_decodes_the_images_itself_is_tried_on_a_blank_one_too(
    tmp_path: pathlib.Path,
) -> None:
    import tensorflow as tf

    class Decoder(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, encoded):
            decoded = tf.map_fn(tf.io.decode_png, encoded, fn_output_signature=tf.uint8)
            return tf.reduce_mean(tf.cast(decoded, tf.float32), [1, 2])

    tf.saved_model.save(Decoder(), str(tmp_path / "m"))
    source = ModelSource(str(tmp_path / "m"))
    bad = np.array([b"no PNG", b"nor this"], object)
    answer = infer(image_batch(bad), engines.load(source))
    assert [error.error_type for error in answer.errors] == ["InferenceError"] * 2
    with pytest.raises(ModelFailedError, match="gone"):
        infer(image_batch(bad), Breaking(source, lambda call: True, GONE))


def test_a_model_that_always_fails_fails_the_bundle(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    def failing(module, images):
        tf.debugging.Assert(tf.reduce_min(images) > 2.0, ["never"])
        return colour_vector(module, images)

    source = save_model(tmp_path / "m", failing)
    with pytest.raises(ModelFailedError, match="never"):
        run_inference(source, image_batch(random_images(9)))


def test_a_batch_without_images_does_not_reach_the_model(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    trace = tmp_path / "was-called"

    def leaving_a_trace(module, images):
        tf.io.write_file(str(trace), "x")
        return colour_vector(module, images)

    source = save_model(tmp_path / "m", leaving_a_trace)
    batch = image_batch(np.empty((0, *SHAPE), np.uint8), errors=[0, 1])
    [answer] = run_inference(source, batch)
    assert (answer.rows, answer.errors) == ((), batch.errors)
    assert answer.place == batch.place
    assert not trace.exists()

    run_inference(source, image_batch(random_images(1)))
    assert trace.exists()


def test_an_answer_that_is_no_vector_an_image_is_refused(tmp_path: pathlib.Path) -> None:
    source = save_model(tmp_path / "m", lambda module, images: images)
    with pytest.raises(
        UserError, match=r"a feature map \[B, 16, 16, 3\], not vectors \[B, N\]"
    ) as info:
        engines.load(source)(random_images(2))
    assert info.value.remedy == Parameter("pool", "mean")
    assert str(info.value).endswith("; pool='mean' or pool='max' makes vectors of it")


# Loading


def save_model_that_tells_its_loads(directory: pathlib.Path, loads: pathlib.Path) -> ModelSource:
    """A model that owns a resource, which writes a file into `loads` each time it is created."""
    import tensorflow as tf

    class Resource(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.float32)

        def _initialize(self):
            # Not a random number: with a seed that another test has set it would repeat.
            number = tf.cast(tf.timestamp() * 1e6, tf.int64)
            path = tf.strings.join([str(loads), tf.strings.as_string(number)], "/")
            tf.io.write_file(path, "loaded")

    loads.mkdir()
    source = save_model(directory, colour_vector, Resource)
    for path in loads.iterdir():  # of saving
        path.unlink()
    return source


def test_a_model_is_loaded_once_though_many_threads_ask_for_it(tmp_path: pathlib.Path) -> None:
    loads = tmp_path / "loads"
    source = save_model_that_tells_its_loads(tmp_path / "m", loads)
    threads = 8
    barrier = threading.Barrier(threads)

    def answer(seed: int) -> np.ndarray:
        barrier.wait(PATIENCE_SECONDS)
        [batch] = run_inference(source, image_batch(random_images(2, seed)))
        return batch.features

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(answer, range(threads)))
    assert len(list(loads.iterdir())) == 1
    images = np.concatenate([random_images(2, seed) for seed in range(threads)])
    expected = loading.load_model(source).call(images)
    assert len(list(loads.iterdir())) == 2  # so the files do count the loads
    np.testing.assert_allclose(np.concatenate(answers), expected, atol=1e-6)


def test_a_pipeline_of_two_threads_loads_the_model_once(tmp_path: pathlib.Path) -> None:
    loads = tmp_path / "loads"
    source = save_model_that_tells_its_loads(tmp_path / "m", loads)
    paths = write_random_images(tmp_path / "images", 60)
    vectors = infer_files(
        paths,
        source,
        ImageSpec(TINY_SIZE, TINY_SIZE),
        tmp_path,
        rows_per_file=3,
        flags=["--direct_num_workers=2", "--direct_running_mode=multi_threading"],
    )
    assert len(list(loads.iterdir())) == 1
    assert len(vectors) == 60


def test_a_model_saved_anew_in_the_same_place_is_loaded_anew(tmp_path: pathlib.Path) -> None:
    directory = save_tiny_model(tmp_path / "m", seed=1)
    source = ModelSource(str(directory))
    images = random_images(3)
    [before] = run_inference(source, image_batch(images))
    shutil.rmtree(directory)
    save_tiny_model(directory, seed=2)
    expected = loading.load_model(source).call(images)
    assert not np.allclose(before.features, expected)
    [after] = run_inference(source, image_batch(images))
    np.testing.assert_allclose(after.features, expected, atol=1e-6)


def test_batches_of_both_pixel_types_go_through_one_model(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    paths = [
        *write_random_images(tmp_path / "a", 2, TINY_SIZE),
        *write_random_images(tmp_path / "b", 3, 20),
    ]
    refs = tuple(ImageRef(str(path), str(path), "1") for path in paths)
    batches = list(decode_shard(shards.Shard(refs), ImageSpec(TINY_SIZE, TINY_SIZE), 2))
    assert [batch.images.dtype for batch in batches] == [np.uint8, np.float32, np.float32]
    answers = run_inference(ModelSource(str(tiny_model)), *batches)
    expected = published_answers(str(tiny_model), paths, (TINY_SIZE, TINY_SIZE))
    np.testing.assert_allclose(
        np.concatenate([answer.features for answer in answers]), expected, atol=1e-5
    )


def test_an_image_to_which_the_model_answers_nan_is_an_error_row(tmp_path: pathlib.Path) -> None:
    """Also beside an image on which it fails: each error is its own image's."""
    import tensorflow as tf

    def root_of_level(module, images):
        check = tf.debugging.Assert(tf.reduce_all(images < 1.0), ["too bright"])
        with tf.control_dependencies([check]):
            return tf.sqrt(tf.reduce_mean(images, [1, 2]) - 0.25)

    levels = [0.5, 0.0, 1.0, 0.75]
    images = np.stack([np.full(SHAPE, level, np.float32) for level in levels])
    [answer] = run_inference(save_model(tmp_path / "m", root_of_level), image_batch(images))
    np.testing.assert_allclose(answer.features[:, 0], np.sqrt([0.25, 0.5]), atol=1e-6)
    refs = [row.ref for row in image_batch(images).rows]
    assert [row.ref for row in answer.rows] == [refs[0], refs[3]]
    assert [error.id for error in answer.errors] == [refs[1].id, refs[2].id]
    assert [error.stage for error in answer.errors] == ["infer", "infer"]
    assert "NaN" in answer.errors[0].message
    assert "too bright" in answer.errors[1].message


def test_an_image_to_which_the_model_answers_infinity_is_an_error_row_of_a_kind_of_its_own(
    tmp_path: pathlib.Path,
) -> None:
    """Infinity of either sign, beside NaN: what overflows is counted apart."""
    import tensorflow as tf

    def reciprocal(module, images):
        level = tf.reduce_mean(images, [1, 2])
        return tf.concat([1.0 / (level - 0.5), tf.sqrt(level - 0.25)], axis=1)

    levels = [0.5, 0.75, 0.0, 1.0]
    images = np.stack([np.full(SHAPE, level, np.float32) for level in levels])
    [answer] = run_inference(save_model(tmp_path / "m", reciprocal), image_batch(images))
    assert [row.ref.id for row in answer.rows] == ["1", "3"]
    assert np.isfinite(answer.features).all()
    told = [(error.id, error.error_type, error.message) for error in answer.errors]
    assert told == [
        ("0", "InfiniteAnswerError", "the model answers infinity"),
        ("2", "InferenceError", "the model answers NaN"),
    ]


def test_a_float16_model_that_overflows_costs_the_image(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    class Half(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float16)])
        def __call__(self, images):
            means = tf.reduce_mean(images, [1, 2]) * 60000.0
            return means + means[:, ::-1]  # up to 120,000; float16 ends at 65,504

    tf.saved_model.save(Half(), str(tmp_path / "m"))
    images = np.stack([np.full(SHAPE, level, np.float32) for level in (0.25, 1.0)])
    source = ModelSource(str(tmp_path / "m"))
    answer = infer(image_batch(images), engines.load(source))
    assert [row.ref.id for row in answer.rows] == ["0"]
    assert [error.error_type for error in answer.errors] == ["InfiniteAnswerError"]
