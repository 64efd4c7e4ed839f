"""Ray Data's batch inference: read, map over tasks, map batches over an actor with the model.

The actor reserves half a core, so that Ray does not move decoding into it, where it would be done
by one thread, and has a core left for it on a machine with two.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import ray

from benchmarks.peers import BATCH_SIZE, IMAGE_SIZE


def decode(row: dict[str, object]) -> dict[str, object]:
    """One image as float32 [224, 224, 3] in [0, 1]."""
    import tensorflow as tf

    image = tf.io.decode_image(row["bytes"], channels=3, expand_animations=False)
    image = tf.image.convert_image_dtype(image, tf.float32)
    return {"id": row["path"], "pixels": tf.image.resize(image, [IMAGE_SIZE, IMAGE_SIZE]).numpy()}


class Model:
    """The actor's state."""

    def __init__(self, path: str):
        import tensorflow_hub as hub

        self._model = hub.load(path)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, object]:
        """Vectors for a batch of images."""
        vectors = self._model(batch["pixels"]).numpy()
        return {"id": batch["id"], "feature_vector": vectors}


def main() -> None:
    """Reads IMAGES, writes OUT."""
    images, out, model = sys.argv[1:]
    started = time.perf_counter()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    (
        ray.data.read_binary_files(images, include_paths=True)
        .map(decode, num_cpus=1)
        .map_batches(
            Model,
            fn_constructor_args=(model,),
            batch_size=BATCH_SIZE,
            num_cpus=0.5,
            compute=ray.data.ActorPoolStrategy(size=1),
        )
        .write_parquet(out)
    )
    ray.shutdown()
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
