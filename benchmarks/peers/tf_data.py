"""The loop that everybody writes: tf.data reads and decodes, `hub.load` infers."""

from __future__ import annotations

import json
import pathlib
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
import tensorflow_hub as hub

from benchmarks.peers import BATCH_SIZE, IMAGE_SIZE


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """One image as float32 [224, 224, 3] in [0, 1]."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image = tf.image.convert_image_dtype(image, tf.float32)
    return tf.image.resize(image, [IMAGE_SIZE, IMAGE_SIZE])


def files(images: str) -> tf.data.Dataset:
    """Pairs of path and encoded image."""
    paths = tf.data.Dataset.list_files(f"{images}/*/*", shuffle=False)
    return paths.map(lambda path: (path, tf.io.read_file(path)), tf.data.AUTOTUNE)


def records(file: str) -> tf.data.Dataset:
    """Pairs of FILE#INDEX and encoded image."""
    features = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}

    def parse(index: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image_id = tf.strings.join([file, "#", tf.strings.as_string(index)])
        return image_id, tf.io.parse_single_example(record, features)["image/encoded"]

    return tf.data.TFRecordDataset(file).enumerate().map(parse, tf.data.AUTOTUNE)


def main() -> None:
    """Reads IMAGES, writes OUT."""
    images, out, model_path = sys.argv[1:]
    started = time.perf_counter()
    record_files = sorted(pathlib.Path(images).glob("*.tfrecord"))
    encoded = records(str(record_files[0])) if record_files else files(images)
    batches = (
        encoded.map(lambda image_id, data: (image_id, decode(data)), tf.data.AUTOTUNE)
        .batch(BATCH_SIZE)
        .prefetch(tf.data.AUTOTUNE)
    )
    model = hub.load(model_path)
    pathlib.Path(out).mkdir(parents=True)
    writer, count = None, 0
    for ids, pixels in batches:
        vectors = model(pixels).numpy()
        table = pa.table(
            {
                "id": pa.array(ids.numpy(), pa.binary()).cast(pa.string()),
                "feature_vector": pa.FixedSizeListArray.from_arrays(
                    vectors.ravel(), vectors.shape[1]
                ),
            }
        )
        writer = writer or pq.ParquetWriter(f"{out}/vectors.parquet", table.schema)
        writer.write_table(table)
        count += len(vectors)
    writer.close()
    print(json.dumps({"images": count, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
