"""Those checks that cost little, on an engine and on a job's own images, before the job begins.

A model that was saved with its augmentation active, or with anything else that is random, gives
vectors that nobody can compute again; one that gets pixels in another range than it was trained
for gives wrong ones.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np

from transforms.engines import Engine, Precision
from transforms.engines.parity import photo_like_images
from transforms.errors import Message
from transforms.examine.checks import DETERMINISTIC, INDEPENDENT, RANGE, Check, distances
from transforms.examine.pixel_range import bright_enough, see_range
from transforms.models.source import ModelSource

MOST_IMAGES = 4

_HEAVY_SECONDS, _FEW_IMAGES = 0.15, 2

# Distance of two vectors over the norm of the first: above what the order of sums and TF32 make of
# it, far below what is random (0.28 to 0.72 was seen).
_SAME: dict[Precision, float] = {"float32": 5e-3, "float16": 5e-2, "bfloat16": 5e-2}


def try_images(
    engine: Engine,
    images: np.ndarray,
    size: tuple[int, int],
    source: ModelSource,
    precision: Precision,
    batch_size: int,
) -> tuple[Check, ...]:
    """Whether an image gets the same vector again, alone and among others, and in which range.

    Costs about seven calls on four images, fewer if the model is slow.

    Args:
      engine: what will run.
      images: the job's first, float32 [B, H, W, 3] in [0, 1], or bytes [B]; too few pixels are
        filled up with fixed ones.
      size: height and width of the images.
      source, precision, batch_size: what the engine is, and images in a batch at most.

    Returns:
      one for each check that could be made; none if the model fails on all the images.
    """
    if images.dtype != object and len(images) < MOST_IMAGES:
        images = np.concatenate([images, photo_like_images(*size, MOST_IMAGES - len(images))])
    images, alone, is_heavy = _each_alone(engine, images)
    if not len(images):
        return ()

    def answer(batch: np.ndarray) -> np.ndarray:
        starts = range(0, len(batch), batch_size)
        return np.concatenate([engine(batch[at : at + batch_size]) for at in starts])

    made: list[Check] = []
    # What it raises on the brightest images or on several at once is not about these images.
    with contextlib.suppress(Exception):
        for check in _checks(engine, images, alone, answer, is_heavy, size, source, precision):
            made.append(check)
    return tuple(made)


def _each_alone(engine: Engine, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """The images that the engine answers with numbers, its vectors, and whether it is slow.

    Of a slow one there are fewer.
    """
    kept: list[int] = []
    vectors: list[np.ndarray] = []
    slowest = 0.0
    for at in range(len(images)):
        if len(kept) >= _FEW_IMAGES and slowest > _HEAVY_SECONDS:
            break
        started = time.perf_counter()
        try:
            vector = engine(images[at : at + 1])
        except Exception:  # noqa: BLE001 - this image will be an error row
            continue
        if np.isfinite(vector).all():
            kept.append(at)
            vectors.append(vector)
            slowest = time.perf_counter() - started  # of the last: the first may take longer
    answers = np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32)
    return images[kept], answers, slowest > _HEAVY_SECONDS


def _checks(
    engine: Engine,
    images: np.ndarray,
    alone: np.ndarray,
    answer: Callable[[np.ndarray], np.ndarray],
    is_heavy: bool,
    size: tuple[int, int],
    source: ModelSource,
    precision: Precision,
) -> Iterator[Check]:
    same = _SAME[precision]
    together = answer(images)
    apart = distances(alone, together).max()
    # What is the same alone and among others is the same twice; a slow model is not called again.
    twice = apart if is_heavy and apart <= same else distances(together, answer(images)).max()
    again = f"two calls on {len(images)} images differ by {twice:.2g} of their vectors' length"
    yield _judged(DETERMINISTIC, twice <= same, again)
    if twice > same:
        return
    among = f"an image alone and among others: vectors differ by {apart:.2g} of their length"
    yield _judged(INDEPENDENT, apart <= same, among)
    if images.dtype == object or "float" not in engine.model.dtype:
        return
    bright = bright_enough(images)
    if not len(bright):
        bright = photo_like_images(*size, len(images))
    seen = see_range(answer, bright, source, engine.first_ops(*size))
    is_doubtful, told = seen.told(source.value_range)
    yield Check(RANGE, "warn" if is_doubtful else "pass", told)


def _judged(name: str, is_good: bool, seen: str) -> Check:
    return Check(name, "pass" if is_good else "fail", Message((seen,)))
