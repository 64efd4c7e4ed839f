"""`python -m examples.digits DIR`: scikit-learn's 1,797 handwritten digits as PNGs, by folder."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import PIL.Image


def write_digits(directory: pathlib.Path, most: int | None = None) -> int:
    """Writes the digits, 8×8 pixels each, as `directory/7/0042.png`; those that are there stay.

    Args:
      directory: where the ten folders go.
      most: how many digits, from the first; None: all.

    Returns:
      how many there are.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images[:most] * (255 / 16)).astype(np.uint8)
    for number, (image, digit) in enumerate(zip(pixels, digits.target, strict=False)):
        path = directory / str(digit) / f"{number:04}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image).save(path)
    return len(pixels)


if __name__ == "__main__":
    print(f"{write_digits(pathlib.Path(sys.argv[1])):,} digits in {sys.argv[1]}")
