"""`python -m examples.own_run_inference PHOTO …`: any image model in Beam's plain `RunInference`.

The keys pass through, Beam makes the batches, and the model is loaded once a worker process.
"""

from __future__ import annotations

import logging
import os
import sys

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference

import runners.direct
from transforms import ImageSpec, ModelSource, SavedModelHandler
from transforms.images.decode import decode_image
from transforms.models.builtin import class_names

SPEC = ImageSpec(height=224, width=224)


def read(path: str) -> tuple[str, np.ndarray]:
    """A photo's pixels, [224, 224, 3]."""
    with open(path, "rb") as file:
        return path, decode_image(file.read(), SPEC).pixels


def best_class(keyed: tuple[str, PredictionResult]) -> str:
    """The photo and the name of its best class."""
    path, result = keyed
    return f"{path}: {class_names()[int(np.argmax(result.inference))]}"


def main(paths: list[str]) -> None:
    """Classifies photos with the built-in model."""
    handler = SavedModelHandler(ModelSource(task="classification"))
    options = beam.options.pipeline_options.PipelineOptions([])
    with beam.Pipeline(runner=runners.direct.create(options), options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create(paths)
            | beam.Map(read)
            | RunInference(KeyedModelHandler(handler))
            | beam.Map(best_class)
            | beam.Map(print)
        )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else it tells a lot
    logging.basicConfig(level=logging.ERROR)
    main(sys.argv[1:])
