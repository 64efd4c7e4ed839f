"""Images to run on."""

from __future__ import annotations

import pathlib

import numpy as np
import PIL.Image


def write_random_images(directory: pathlib.Path, count: int, size: int = 20) -> list[pathlib.Path]:
    """Writes small PNGs, each with other random pixels; 1,000 a subdirectory."""
    random = np.random.default_rng(count)
    paths = []
    for number in range(count):
        path = directory / f"{number // 1000:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(path, compress_level=0)
        paths.append(path)
    return paths
