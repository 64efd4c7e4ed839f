"""Resizing as TensorFlow does it on CPUs, bit for bit."""

from __future__ import annotations

import functools

import numpy as np

# convert_image_dtype multiplies by this float32; dividing by 255 gives other last bits.
UINT8_SCALE = np.float32(1.0 / 255.0)


def to_float(pixels: np.ndarray) -> np.ndarray:
    """uint8 pixels as float32 in [0, 1], bit-equal to `tf.image.convert_image_dtype`."""
    return np.multiply(pixels, UINT8_SCALE, dtype=np.float32)


def resize(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes as `tf.image.convert_image_dtype` then `tf.image.resize` do, bit for bit.

    Only the source pixels that the output needs are converted. The arithmetic, in its order, is
    that of TensorFlow's CPU kernel (resize_bilinear_op.cc): first between columns, then rows.

    Args:
      rgb: uint8 [H, W, 3].

    Returns:
      float32 [height, width, 3] in [0, 1].
    """
    needed, top, bottom, y_lerp = _row_plan(rgb.shape[0], height)
    left, right, x_lerp = _column_plan(rgb.shape[1], width)
    rows = rgb.reshape(len(rgb), -1)
    if len(needed) < len(rows):
        rows = rows[needed]

    from_left = to_float(np.take(rows, left, axis=1, mode="clip"))
    between = to_float(np.take(rows, right, axis=1, mode="clip"))
    between -= from_left
    between *= x_lerp
    between += from_left

    from_top = np.take(between, top, axis=0, mode="clip")
    resized = np.take(between, bottom, axis=0, mode="clip")
    resized -= from_top
    resized *= y_lerp
    resized += from_top
    return resized.reshape(height, width, 3)


@functools.lru_cache(256)
def _row_plan(size_in: int, size_out: int) -> tuple[np.ndarray, ...]:
    """Which rows are needed; which of these lie above and below each output row; weights [H, 1]."""
    top, bottom, lerp = _interpolation(size_in, size_out)
    needed, place = np.unique([top, bottom], return_inverse=True)
    top, bottom = place.reshape(2, -1)
    return needed, top, bottom, lerp[:, np.newaxis]


@functools.lru_cache(256)
def _column_plan(size_in: int, size_out: int) -> tuple[np.ndarray, ...]:
    """Where in a row the channels left and right of each output channel are; weights [W * 3]."""
    left, right, lerp = _interpolation(size_in, size_out)
    left, right = ((at[:, np.newaxis] * 3 + np.arange(3)).ravel() for at in (left, right))
    return left, right, np.repeat(lerp, 3)


def _interpolation(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower index, upper index (int64) and weight of the upper (float32) for each output pixel."""
    scale = np.float32(size_in) / np.float32(size_out)
    position = (np.arange(size_out, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(position)
    lower = np.maximum(floor, 0).astype(np.int64)
    upper = np.minimum(np.ceil(position), size_in - 1).astype(np.int64)
    return lower, upper, (position - floor).astype(np.float32)
