"""Beam as its documentation has it: MatchFiles, Map, RunInference, WriteToParquet.

Beam's TensorFlow handler loads models through Keras, which cannot open a plain SavedModel any
more; loading it with `hub.load` is the one thing changed here. The runner is named, as
`DirectRunner` would try to download another one.
"""

from __future__ import annotations

import json
import sys
import time

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_hub as hub
from apache_beam.io.fileio import MatchFiles, ReadableFile, ReadMatches
from apache_beam.io.parquetio import WriteToParquet
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerNumpy
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from benchmarks.peers import BATCH_SIZE, IMAGE_SIZE

SCHEMA = pa.schema([("id", pa.string()), ("feature_vector", pa.list_(pa.float32()))])


class HubHandler(TFModelHandlerNumpy):
    """Beam's handler, with `hub.load`."""

    def load_model(self) -> tf.Module:
        """The model."""
        return hub.load(self._model_uri)


def decode(file: ReadableFile) -> tuple[str, np.ndarray]:
    """A path and its image as float32 [224, 224, 3] in [0, 1]."""
    image = tf.io.decode_image(file.read(), channels=3, expand_animations=False)
    image = tf.image.convert_image_dtype(image, tf.float32)
    return file.metadata.path, tf.image.resize(image, [IMAGE_SIZE, IMAGE_SIZE]).numpy()


def row(result: tuple[str, PredictionResult]) -> dict[str, object]:
    """What is written of one image."""
    image_id, prediction = result
    return {"id": image_id, "feature_vector": prediction.inference.numpy()}


def main() -> None:
    """Reads IMAGES, writes OUT."""
    images, out, model = sys.argv[1:]
    started = time.perf_counter()
    with beam.Pipeline(FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | MatchFiles(f"{images}/**")
            | ReadMatches()
            | beam.Map(decode)
            | RunInference(KeyedModelHandler(HubHandler(model, max_batch_size=BATCH_SIZE)))
            | beam.Map(row)
            | WriteToParquet(f"{out}/vectors", SCHEMA, file_name_suffix=".parquet")
        )
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
