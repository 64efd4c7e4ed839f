"""Measures the smallest batch with which the model is about as fast as it gets.

Larger batches give nothing but memory and waiting: an engine that cuts them into slices is as fast
with few images as with many; a GPU wants many.
"""

from __future__ import annotations

import time

import numpy as np

from transforms.engines import Engine
from transforms.images.decode import blank_images
from transforms.images.spec import ImageSpec
from transforms.machine.memory import available_memory

SIZES = (8, 16, 32, 64, 128, 256)

# Batches that may be in memory at a time: read ahead, in the model, being written.
_BATCHES_IN_MEMORY = 10
_SHARE_OF_MEMORY = 0.25
_SECONDS_PER_SIZE = 0.4
_GOOD_ENOUGH = 0.97


def measure_batch_size(
    engine: Engine, image: ImageSpec, memory_bytes: int | None = None
) -> tuple[int, dict[int, float]]:
    """Tries batch sizes on blank images, in turn, and chooses one.

    Args:
      engine: what will run.
      image: what the images will be.
      memory_bytes: what all batches at a time may take; None: a quarter of the free memory.

    Returns:
      images in a batch, and images/s by batch size.

    Raises:
      Exception: what the model raises on the smallest batch.
    """
    if memory_bytes is None:
        memory_bytes = int(_SHARE_OF_MEMORY * available_memory())
    largest = memory_bytes // (_BATCHES_IN_MEMORY * blank_images(1, image)[:1].nbytes)
    fixed = engine.model.batch_size or 1
    sizes = sorted({-(-size // fixed) * fixed for size in SIZES if size <= largest} or {fixed})
    rates: dict[int, float] = {}
    for size in sizes:
        images = blank_images(size, image)
        try:
            engine(images)  # the first answer to a size may take longer
            rates[size] = _rate(engine, images)
        except Exception:  # out of memory, in whatever words the engine has for it
            if not rates:
                raise
            break
    best = max(rates.values())
    chosen = next(size for size, rate in rates.items() if rate >= _GOOD_ENOUGH * best)
    return chosen, {size: round(rate, 1) for size, rate in rates.items()}


def _rate(engine: Engine, images: np.ndarray) -> float:
    """Images a second: the best of several turns, as other programs disturb single ones."""
    best = 0.0
    began = time.perf_counter()
    while time.perf_counter() - began < _SECONDS_PER_SIZE:
        started = time.perf_counter()
        engine(images)
        best = max(best, len(images) / (time.perf_counter() - started))
    return best
