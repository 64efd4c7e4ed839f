"""`python -m benchmarks.reference IMAGES MODEL`: what TensorFlow alone can do.

Prints one line of JSON: the time to import it, load the model and freeze it, in `seconds since the
process started`; and the rate of the bare model, `hub.load(model)(batch)` on predecoded batches of
32 in TensorFlow's default settings.
"""

from __future__ import annotations

import json
import os
import sys
import time

SECONDS = 8.0
BATCHES = 8


def seconds_of_this_process() -> float:
    """Since it started; Linux only. (psutil knows the time of boot to a second only.)"""
    with open("/proc/self/stat", encoding="utf-8") as file:
        started = int(file.read().rpartition(")")[2].split()[19])  # field 22, in clock ticks
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measures, with nothing else in the process."""
    images, model_path = sys.argv[1:]
    import tensorflow as tf

    imported = seconds_of_this_process()
    import tensorflow_hub as hub
    from tensorflow.python.framework import convert_to_constants

    model = hub.load(model_path)
    loaded = seconds_of_this_process()
    spec = tf.TensorSpec([None, 224, 224, 3], tf.float32)
    concrete = tf.function(model, input_signature=[spec]).get_concrete_function()
    convert_to_constants.convert_variables_to_constants_v2(concrete)
    frozen = seconds_of_this_process()

    from benchmarks.peers.tf_data import decode, files

    pixels = files(images).map(lambda _, data: decode(data)).batch(32, drop_remainder=True)
    batches = list(pixels.take(BATCHES))
    model(batches[0])
    count, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < SECONDS:
        model(batches[count % len(batches)]).numpy()
        count += 1
    print(
        json.dumps(
            {
                "imported_seconds": imported,
                "frozen_seconds": frozen,
                "load_and_freeze_seconds": frozen - imported,
                "load_seconds": loaded - imported,
                "bare_images_a_second": 32 * count / elapsed,
            }
        )
    )


if __name__ == "__main__":
    main()
