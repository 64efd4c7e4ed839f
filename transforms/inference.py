"""The model handler: image batches in, feature batches out, through Beam's `RunInference`.

Use it as the outermost handler: `RunInference(ImageModelHandler(source).with_no_batching())`; the
batches are made by `DecodeShards`, and wrappers such as `KeyedModelHandler` forget that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import ModelHandler, RunInference

from transforms import models
from transforms.batches import FeatureBatch, ImageBatch
from transforms.engines import tensorflow as tensorflow_engine
from transforms.errors import InferenceError, error_row, one_line

Engine = Callable[[np.ndarray], np.ndarray]


class InferFeatures(beam.PTransform):
    """`ImageBatch`es to `FeatureBatch`es, each in its order."""

    def __init__(self, source: models.ModelSource):
        super().__init__()
        self._source = source

    def expand(self, batches: beam.PCollection[ImageBatch]) -> beam.PCollection[FeatureBatch]:
        """`ImageBatch`es to `FeatureBatch`es."""
        handler = ImageModelHandler(self._source).with_no_batching()
        return batches | RunInference(handler).with_output_types(FeatureBatch)


class ImageModelHandler(ModelHandler[ImageBatch, FeatureBatch, Engine]):
    """Loads a SavedModel once a worker process, shared by its threads, and runs image batches.

    A batch on which the model fails is halved until the images that make it fail are alone; these
    become error rows, the others rows.
    """

    def __init__(self, source: models.ModelSource, **kwargs: Any):
        super().__init__(**kwargs)
        self._source = source

    def load_model(self) -> Engine:
        """The engine with the frozen graph."""
        return tensorflow_engine.load(self._source)

    def run_inference(
        self,
        batch: Sequence[ImageBatch],
        model: Engine,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[FeatureBatch]:
        """One feature batch for the image batch.

        Args:
          batch: one `ImageBatch` (RunInference hands on the element, as batching is off).
          model: the engine.
          inference_args: none are known.
        """
        assert isinstance(batch, ImageBatch)
        return [infer(batch, model)]

    def get_num_bytes(self, batch: Sequence[ImageBatch]) -> int:
        """Bytes of pixels, without pickling them."""
        assert isinstance(batch, ImageBatch)
        return batch.images.nbytes

    def get_metrics_namespace(self) -> str:
        """The namespace of RunInference's metrics."""
        return "image_features"


def infer(batch: ImageBatch, engine: Engine) -> FeatureBatch:
    """Runs one batch through the engine, and what fails in it image by image."""
    started = time.perf_counter()
    arrays, failures = _bisect(batch.images, 0, engine)
    features = np.concatenate(arrays) if arrays else np.empty((0, 0), np.float32)
    answered = [at for at in range(len(batch.rows)) if at not in dict(failures)]
    numbers = np.logical_not(np.isnan(features).any(axis=1))
    if not numbers.all():
        nan = InferenceError("the model answers NaN")
        failures += [(at, nan) for at, ok in zip(answered, numbers, strict=True) if not ok]
        features = features[numbers]
    failed = dict(failures)
    errors = [
        error_row(batch.rows[position].ref, "infer", InferenceError(one_line(failure)))
        for position, failure in sorted(failures, key=_position)
    ]
    return FeatureBatch(
        features=features,
        rows=tuple(row for position, row in enumerate(batch.rows) if position not in failed),
        errors=(*batch.errors, *errors),
        place=batch.place,
        read_seconds=batch.read_seconds,
        decode_seconds=batch.decode_seconds,
        infer_seconds=time.perf_counter() - started,
    )


def _position(failure: tuple[int, Exception]) -> int:
    return failure[0]


def _bisect(
    images: np.ndarray, first: int, engine: Engine
) -> tuple[list[np.ndarray], list[tuple[int, Exception]]]:
    """Features of the images that work, in order, and (position, failure) of those that do not."""
    if len(images) == 0:
        return [], []
    try:
        return [engine(images)], []
    except Exception as failure:  # noqa: BLE001 - a model may raise anything; the row says what
        if len(images) == 1:
            return [], [(first, failure)]
    half = len(images) // 2
    arrays, failures = _bisect(images[:half], first, engine)
    more_arrays, more_failures = _bisect(images[half:], first + half, engine)
    return arrays + more_arrays, failures + more_failures
