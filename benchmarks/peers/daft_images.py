"""Daft: it downloads and decodes natively; a class with the model resizes and infers by batch.

Daft's own resize makes other pixels than `tf.image.resize`, so TensorFlow's is used.
"""

from __future__ import annotations

import json
import sys
import time

import daft
import numpy as np
from daft import DataType, Series, col
from daft.functions import decode_image, download

from benchmarks.peers import BATCH_SIZE, IMAGE_SIZE


@daft.cls(max_concurrency=1)
class Model:
    """The model, loaded once."""

    def __init__(self, path: str):
        import tensorflow_hub as hub

        self._model = hub.load(path)

    @daft.method.batch(return_dtype=DataType.list(DataType.float32()), batch_size=BATCH_SIZE)
    def vectors(self, images: Series) -> list[np.ndarray]:
        """Vectors for a batch of decoded images."""
        import tensorflow as tf

        pixels = [
            tf.image.resize(
                tf.image.convert_image_dtype(image, tf.float32), [IMAGE_SIZE, IMAGE_SIZE]
            )
            for image in images.to_pylist()
        ]
        return list(self._model(tf.stack(pixels)).numpy())


def main() -> None:
    """Reads IMAGES, writes OUT."""
    images, out, model = sys.argv[1:]
    started = time.perf_counter()
    decoded = daft.from_glob_path(f"{images}/**").select(
        col("path").alias("id"), decode_image(download(col("path")), mode="RGB").alias("image")
    )
    vectors = Model(model).vectors(col("image")).alias("feature_vector")
    decoded.select(col("id"), vectors).write_parquet(out)
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
