"""Images to run on."""

from __future__ import annotations

import pathlib

import numpy as np
import PIL.Image


def write_random_images(
    directory: pathlib.Path, count: int, size: int = 20, suffix: str = ".png"
) -> list[pathlib.Path]:
    """Writes small images, each with other random pixels; 1,000 a subdirectory.

    With `--engine openvino` a run over JPEGs never imports TensorFlow, which decodes PNGs.
    """
    random = np.random.default_rng(count)
    how = {".png": {"compress_level": 0}, ".jpg": {"quality": 95}}[suffix]
    paths = []
    for number in range(count):
        path = directory / f"{number // 1000:03d}" / f"{number:06d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(path, **how)
        paths.append(path)
    return paths
