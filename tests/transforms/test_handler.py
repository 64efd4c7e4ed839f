"""`SavedModelHandler` in Beam's plain RunInference, on arrays, as anybody would use it."""

from __future__ import annotations

import pathlib

import apache_beam as beam
import numpy as np
import pytest
import tensorflow_hub as hub
from apache_beam.ml.inference.base import KeyedModelHandler, ModelMetadata, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

import runners.direct
from tests.helpers.jobs import save_counting_model
from tests.helpers.tiny_model import TINY_SIZE, save_tiny_model
from transforms import ModelSource, SavedModelHandler, UserError

SHAPE = (TINY_SIZE, TINY_SIZE, 3)


def images(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((count, *SHAPE), np.float32))


def new_pipeline() -> beam.Pipeline:
    options = PipelineOptions()
    return beam.Pipeline(runner=runners.direct.create(options), options=options)


def rounded(vector: np.ndarray) -> tuple[float, ...]:
    return tuple(np.round(np.asarray(vector, np.float64), 3) + 0.0)


def expected(model: pathlib.Path, batch: list[np.ndarray]) -> list[tuple[float, ...]]:
    return [rounded(vector) for vector in hub.load(str(model))(np.stack(batch)).numpy()]


def test_beam_batches_arrays(tiny_model: pathlib.Path) -> None:
    batch = images(70)
    with new_pipeline() as pipeline:
        results = pipeline | beam.Create(batch) | RunInference(SavedModelHandler(str(tiny_model)))
        vectors = results | beam.Map(lambda result: rounded(result.inference))
        assert_that(vectors, equal_to(expected(tiny_model, batch)))


def test_keys_pass_through(tiny_model: pathlib.Path) -> None:
    batch = images(5)
    handler = KeyedModelHandler(SavedModelHandler(str(tiny_model)))
    with new_pipeline() as pipeline:
        results = pipeline | beam.Create(list(enumerate(batch))) | RunInference(handler)
        vectors = results | beam.MapTuple(lambda key, result: (key, rounded(result.inference)))
        assert_that(vectors, equal_to(list(enumerate(expected(tiny_model, batch)))))


def test_a_preprocess_function_makes_the_images(tiny_model: pathlib.Path) -> None:
    def filled(level: float) -> np.ndarray:
        return np.full(SHAPE, level, np.float32)

    levels = [0.0, 0.25, 1.0]
    handler = SavedModelHandler(str(tiny_model)).with_preprocess_fn(filled)
    with new_pipeline() as pipeline:
        results = pipeline | beam.Create(levels) | RunInference(handler)
        vectors = results | beam.Map(lambda result: rounded(result.inference))
        assert_that(vectors, equal_to(expected(tiny_model, [filled(level) for level in levels])))


def test_arrays_that_are_batches_already(tiny_model: pathlib.Path) -> None:
    batch = images(6)
    handler = SavedModelHandler(str(tiny_model)).with_no_batching()
    with new_pipeline() as pipeline:
        batches = pipeline | beam.Create([np.stack(batch[:4]), np.stack(batch[4:])])
        vectors = batches | RunInference(handler) | beam.Map(lambda r: rounded(r.inference))
        assert_that(vectors, equal_to(expected(tiny_model, batch)))


def test_a_side_input_changes_the_model(tiny_model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    other = save_tiny_model(tmp_path / "other", seed=5)
    batch = images(3)
    with new_pipeline() as pipeline:
        metadata = pipeline | "Model" >> beam.Create([ModelMetadata(str(other), "other")])
        results = (
            pipeline
            | beam.Create(batch)
            | RunInference(SavedModelHandler(str(tiny_model)), model_metadata_pcoll=metadata)
        )
        vectors = results | beam.Map(lambda r: (r.model_id, rounded(r.inference)))
        assert_that(vectors, equal_to([(str(other), v) for v in expected(other, batch)]))


def test_trust_is_said_of_one_model_and_not_of_the_next(tmp_path: pathlib.Path) -> None:
    given = save_counting_model(tmp_path / "given", tmp_path / "log")
    another = save_counting_model(tmp_path / "another", tmp_path / "log")
    handler = SavedModelHandler(ModelSource(str(given), trusted=True))
    handler.load_model()
    handler.update_model_path(str(another))
    with pytest.raises(UserError, match=r"another.*PrintV2"):
        handler.load_model()
    handler.update_model_path(str(given))  # it is what was trusted
    handler.load_model()


def test_a_digest_is_that_of_one_model_and_not_of_the_next(
    tiny_model: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    handler = SavedModelHandler(ModelSource(str(tiny_model), sha256="a" * 64))
    with pytest.raises(UserError, match="but sha256 is aaaa"):
        handler.load_model()
    handler.update_model_path(str(save_tiny_model(tmp_path / "other", seed=2)))
    handler.load_model()


def test_inference_args_are_refused(tiny_model: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="inference_args"):
        _ = (
            new_pipeline()
            | beam.Create(images(1))
            | RunInference(SavedModelHandler(str(tiny_model)), inference_args={"training": True})
        )


def test_images_of_different_sizes_are_told(tiny_model: pathlib.Path) -> None:
    handler = SavedModelHandler(str(tiny_model))
    batch = [np.zeros((16, 16, 3), np.float32), np.zeros((8, 16, 3), np.float32)]
    with pytest.raises(ValueError, match=r"one size; these are \[\(8, 16, 3\), \(16, 16, 3\)\]"):
        handler.run_inference(batch, handler.load_model())
