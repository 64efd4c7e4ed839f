"""The model handler for Beam's `RunInference`, and the transform that uses it on image batches."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference

from transforms import engines
from transforms.batches import FeatureBatch, ImageBatch, StageSeconds
from transforms.engines.bisection import ModelFunction, bisected, refuse_if_it_fails_on_all
from transforms.errors import (
    InferenceError,
    InfiniteAnswerError,
    error_row,
    one_line,
)
from transforms.machine import tally
from transforms.models import builtin, staging
from transforms.models.loading import LoadedModel
from transforms.models.source import ModelSource


class InferFeatures(beam.PTransform):
    """`ImageBatch`es to `FeatureBatch`es, each in its order.

    Args:
      source: the model.
      engine, precision: what runs it; see `transforms.engines`.
    """

    def __init__(
        self,
        source: ModelSource,
        engine: engines.EngineName = "tensorflow",
        precision: engines.Precision = "float32",
    ):
        super().__init__()
        self._handler = SavedModelHandler(source, engine=engine, precision=precision)

    def expand(self, batches: beam.PCollection[ImageBatch]) -> beam.PCollection[FeatureBatch]:
        """`ImageBatch`es to `FeatureBatch`es."""
        handler = self._handler.with_no_batching()
        return batches | RunInference(handler).with_output_types(FeatureBatch)


Images = np.ndarray | ImageBatch
Answer = PredictionResult | FeatureBatch


class SavedModelHandler(ModelHandler[Images, Answer, ModelFunction]):
    """Any published image model in Beam's `RunInference`, on NumPy arrays or on `ImageBatch`es.

    The model is loaded once a worker process, with a frozen graph, and shared by its threads.

    On arrays it is a drop-in for Beam's own handlers: elements are images [H, W, 3], float32 in
    [0, 1] or uint8, all of one shape; Beam batches them, `KeyedModelHandler` and
    `with_preprocess_fn` work as usual, and results are `PredictionResult`s with a float32 vector
    [N]. With `with_no_batching()` an element is an array [B, H, W, 3]. The model can be changed by
    `RunInference(model_metadata_pcoll=…)`; `inference_args` are refused: hyper-parameters are in
    `ModelSource.arguments`. A batch on which the model fails raises;
    `RunInference.with_exception_handling()` is Beam's answer.

    On `ImageBatch`es, which `DecodeShards` makes, it must be the outermost handler and
    `with_no_batching()`: wrappers such as `KeyedModelHandler` forget that. A batch on which the
    model fails is halved until the images that make it fail are alone; these become error rows. If
    the model fails on a blank image as well, it raises: then no image is at fault.

    Args:
      model: which model: a handle as `transforms.models.staging` takes it, or a `ModelSource` with
        all that can be said.
      max_batch_size: images in a batch that Beam makes, at most.
      engine, precision: what runs it; see `transforms.engines`.
      kwargs: as for Beam's `ModelHandler`.

    >>> handler = SavedModelHandler("efficientnet-lite0")
    >>> handler.batch_elements_kwargs()
    {'max_batch_size': 32}
    """

    def __init__(
        self,
        model: str | ModelSource = builtin.NAME,
        max_batch_size: int = 32,
        engine: engines.EngineName = "tensorflow",
        precision: engines.Precision = "float32",
        **kwargs: Any,
    ):
        super().__init__(max_batch_size=max_batch_size, **kwargs)
        self._given = ModelSource(model) if isinstance(model, str) else model
        self._source = self._given
        self._engine = engine
        self._precision = precision

    def load_model(self) -> ModelFunction:
        """The engine with the frozen graph; the model is staged first if it is not here.

        Raises:
          UserError: the model cannot be had, is not trusted or takes no images.
        """
        source = self._source
        if not source.is_builtin and source.path is None:
            path = staging.stage(
                source.name, source.sha256, private_redirects=source.private_redirects
            )
            source = dataclasses.replace(source, path=path)
        return engines.load(source, self._engine, self._precision)

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """How Beam batches arrays."""
        return self._batching_kwargs

    def validate_inference_args(self, inference_args: dict[str, Any] | None) -> None:
        """Refuses `inference_args`.

        Raises:
          ValueError: there are some.
        """
        if inference_args:
            raise ValueError(
                f"inference_args {sorted(inference_args)}: hyper-parameters go into "
                "ModelSource.arguments"
            )

    def update_model_path(self, model_path: str | None = None) -> None:
        """Called by RunInference when its side input names another model.

        It is called as the first one is, and not trusted: `trusted` was said of that one.
        """
        if not model_path or model_path == self._source.name:
            return
        self._source = self._given
        if model_path != self._given.name:
            # Whom the model came from was asked for the first one alone.
            self._source = dataclasses.replace(
                self._given, name=model_path, path=None, sha256=None, trusted=False
            )

    def run_inference(
        self,
        batch: Sequence[np.ndarray] | np.ndarray | ImageBatch,  # type: ignore[override]
        model: ModelFunction,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[Answer]:
        """One `PredictionResult` for each array, or one `FeatureBatch` for an `ImageBatch`.

        Args:
          batch: what Beam hands on.
          model: the engine.
          inference_args: none are known.

        Raises:
          ValueError: the arrays are not images of one shape.
          ModelFailedError: on an `ImageBatch`, the model fails on all.
          Exception: whatever the model raises on arrays.
        """
        if isinstance(batch, ImageBatch):
            return [infer(batch, model)]
        shapes = sorted({np.shape(image) for image in batch})
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != 3:
            raise ValueError(f"images must all be [H, W, 3] of one size; these are {shapes}")
        _check_size(model, *shapes[0][:2])
        features = model(np.stack(batch) if not isinstance(batch, np.ndarray) else batch)
        return [
            PredictionResult(image, vector, self._source.name)
            for image, vector in zip(batch, features, strict=True)
        ]

    def get_num_bytes(self, batch: Sequence[np.ndarray] | ImageBatch) -> int:  # type: ignore[override]
        """Bytes of pixels, without pickling them."""
        if isinstance(batch, ImageBatch):
            return batch.images.nbytes
        return sum(image.nbytes for image in batch)

    def get_metrics_namespace(self) -> str:
        """The namespace of RunInference's metrics."""
        return "image_features"


def _check_size(model: ModelFunction, height: int, width: int) -> None:
    loaded = getattr(model, "model", None)
    wanted = (loaded.height, loaded.width) if isinstance(loaded, LoadedModel) else (None, None)
    fits = zip(wanted, (height, width), strict=True)
    if any(want is not None and want != size for want, size in fits):
        takes = "x".join("any" if size is None else str(size) for size in wanted)
        raise ValueError(f"images are {height}x{width}; the model takes {takes} only: resize them")


def infer(batch: ImageBatch, engine: ModelFunction) -> FeatureBatch:
    """Runs one batch through the engine, and what fails in it image by image.

    Raises:
      ModelFailedError: the model fails on a blank image as well, so that no image is at fault.
    """
    started = time.perf_counter()
    arrays, failures = bisected(batch.images, engine)
    if failures and failures[-1][0] == len(batch.rows) - 1:  # it may be failing from here on
        refuse_if_it_fails_on_all(batch.images, engine)
    features = np.concatenate(arrays) if arrays else np.empty((0, 0), np.float32)
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        failed = dict(failures)
        answered = [at for at in range(len(batch.rows)) if at not in failed]
        failures += [(answered[at], _no_number(features[at])) for at in np.flatnonzero(~finite)]
        features = features[finite]
    failed = dict(failures)
    errors = [
        error_row(batch.rows[position].ref, "infer", _told_as_inference_error(failure))
        for position, failure in sorted(failures, key=_position)
    ]
    tally.add(len(features), len(batch.errors) + len(errors))
    return FeatureBatch(
        features=features,
        rows=tuple(row for position, row in enumerate(batch.rows) if position not in failed),
        errors=(*batch.errors, *errors),
        place=batch.place,
        seconds=batch.seconds + StageSeconds(infer=time.perf_counter() - started),
    )


def _no_number(vector: np.ndarray) -> InferenceError:
    """What is wrong with a vector that holds NaN or infinity."""
    if np.isnan(vector).any():
        return InferenceError("the model answers NaN")
    return InfiniteAnswerError("the model answers infinity")


def _told_as_inference_error(failure: Exception) -> InferenceError:
    return failure if isinstance(failure, InferenceError) else InferenceError(one_line(failure))


def _position(failure: tuple[int, Exception]) -> int:
    return failure[0]
