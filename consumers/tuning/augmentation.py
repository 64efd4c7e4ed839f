"""Training images turned, moved, sheared, zoomed and mirrored: one affine map each, by its seed.

The map is that of Keras' `ImageDataGenerator` (`apply_affine_transform`: from a point of the result
to a point of the image, about its centre: rotation · shift · shear · zoom), with its defaults:
bilinear, and beyond the edge the nearest pixel. Mirroring comes last. One map instead of several
rounds the pixels once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from consumers.tuning.options import Augmentation


def affine_maps(
    augmentation: Augmentation,
    positions: Sequence[int],
    height: int,
    width: int,
    seed: int,
    step: int,
) -> np.ndarray:
    """The maps of the images of one step, as `tf.raw_ops.ImageProjectiveTransformV3` has them.

    Args:
      augmentation: how far they may go.
      positions: of the images in the step's batch: each draws by itself, whatever happens to
        others.
      height, width: of the images, in pixels.
      seed, step: what else decides what is drawn.

    Returns:
      float32 [B, 8].
    """
    maps = [
        _flat(_map(augmentation, np.random.default_rng([seed, step, at]), height, width))
        for at in positions
    ]
    return np.array(maps, np.float32).reshape(-1, 8)


def augmented(images: Any, maps: Any) -> Any:
    """Images through their maps: a tensor float32 [B, H, W, 3] again; no value leaves its range."""
    import tensorflow as tf

    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=maps,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def _map(
    augmentation: Augmentation, random: np.random.Generator, height: int, width: int
) -> np.ndarray:
    """float64 [3, 3]: (row, column, 1) of the result to that of the image."""

    def drawn(reach: float) -> float:
        return float(random.uniform(-reach, reach))

    angle = np.deg2rad(drawn(augmentation.rotation_range))
    down = drawn(augmentation.height_shift_range) * height
    right = drawn(augmentation.width_shift_range) * width
    shear = np.deg2rad(drawn(augmentation.shear_range))
    zoom_down, zoom_right = (1 + drawn(augmentation.zoom_range) for _ in range(2))
    is_mirrored = augmentation.horizontal_flip and random.random() < 0.5

    sin, cos = np.sin(angle), np.cos(angle)
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    shift = np.array([[1, 0, down], [0, 1, right], [0, 0, 1]])
    sheared = np.array([[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]])
    zoom = np.diag([zoom_down, zoom_right, 1.0])
    centre = _shift((height - 1) / 2, (width - 1) / 2)
    back = _shift((1 - height) / 2, (1 - width) / 2)
    whole = centre @ rotation @ shift @ sheared @ zoom @ back
    mirror = np.array([[1, 0, 0], [0, -1, width - 1], [0, 0, 1]])
    return whole @ mirror if is_mirrored else whole


def _shift(down: float, right: float) -> np.ndarray:
    return np.array([[1, 0, down], [0, 1, right], [0, 0, 1]])


def _flat(rows_first: np.ndarray) -> list[float]:
    """The eight numbers of TensorFlow's op, which has the column first."""
    (r0, r1, r2), (c0, c1, c2), _ = rows_first.tolist()
    return [c1, c0, c2, r1, r0, r2, 0.0, 0.0]
