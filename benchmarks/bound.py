"""`python -m benchmarks.bound IMAGES MODEL ENGINE PRECISION [FIELD=VALUE ...]`: the ceiling.

Measures decoding alone and the model alone, as the pipeline does them, in CPU seconds an image. No
pipeline on these cores can be faster than cores / (decode + model). FIELD=VALUE are further fields
of the `ImageSpec`. Prints one line of JSON.
"""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import sys
import time
from collections.abc import Callable

import numpy as np

from transforms import engines
from transforms.images.decode import decode_image
from transforms.images.spec import ImageSpec
from transforms.machine.cores import available_cores
from transforms.models.source import ModelSource

SECONDS = 6.0
BATCH_SIZE = 32


def cpu_seconds_an_image(work: Callable[[], int]) -> float:
    """CPU seconds of this process, all threads, for each image that `work` says it did."""
    work()
    count, begun, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < SECONDS:
        count += work()
    return (time.process_time() - cpu) / count


def main() -> None:
    """Measures one variant."""
    images, model, engine_name, precision, *fields = sys.argv[1:]
    spec = ImageSpec(224, 224, **dict(field.split("=") for field in fields))
    engine = engines.load(ModelSource(model), engine_name, precision)  # type: ignore[arg-type]
    paths = sorted(path for path in pathlib.Path(images).glob("*/*"))[:BATCH_SIZE]
    encoded = [path.read_bytes() for path in paths]
    batch = np.stack([decode_image(data, spec).pixels for data in encoded])

    with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
        decode = cpu_seconds_an_image(
            lambda: len(list(pool.map(lambda data: decode_image(data, spec), encoded)))
        )
    infer = cpu_seconds_an_image(lambda: len(engine(batch)))
    print(
        json.dumps(
            {
                "decode_cpu_ms": decode * 1000,
                "model_cpu_ms": infer * 1000,
                "bound_images_a_second": available_cores() / (decode + infer),
            }
        )
    )


if __name__ == "__main__":
    main()
