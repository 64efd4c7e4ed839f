"""The array of a batch, which decoding threads fill."""

from __future__ import annotations

import threading

import numpy as np

from transforms.images.resize import to_float
from transforms.images.spec import ImageSpec


class PixelBuffer:
    """The array of one batch, allocated when the first pixels come.

    A batch in which nothing was resized is uint8. As soon as one image has fractional values the
    batch is float32, and its uint8 images are converted as the model's graph would do it.
    """

    def __init__(self, size: int, spec: ImageSpec):
        self._shape = (size, spec.height, spec.width, 3) if spec.kind == "pixels" else (size,)
        self._arrays: dict[np.dtype, np.ndarray] = {}
        self._positions: dict[np.dtype, list[int]] = {}
        self._lock = threading.Lock()

    @staticmethod
    def most_bytes(size: int, spec: ImageSpec) -> int:
        """What the arrays of a batch of so many images take, at most; 0 where the model decodes."""
        values = size * spec.height * spec.width * 3 if spec.kind == "pixels" else 0
        return values if spec.pixels == "uint8" else values * (1 + 4)  # of both dtypes

    def put(self, position: int, pixels: np.ndarray) -> None:
        """Writes one image: [H, W, 3], or a scalar array of bytes where the model decodes."""
        with self._lock:
            if pixels.dtype not in self._arrays:
                self._arrays[pixels.dtype] = np.empty(self._shape, pixels.dtype)
                self._positions[pixels.dtype] = []
            self._positions[pixels.dtype].append(position)
            array = self._arrays[pixels.dtype]
        array[position] = pixels[()] if pixels.ndim == 0 else pixels

    def take(self, positions: list[int]) -> np.ndarray:
        """The images at `positions`, as one array of one dtype."""
        floats = self._arrays.get(np.dtype(np.float32))
        bytes_ = self._arrays.get(np.dtype(np.uint8))
        if floats is not None and bytes_ is not None:
            for position in self._positions[bytes_.dtype]:
                floats[position] = to_float(bytes_[position])
        array = floats if floats is not None else bytes_
        if len(self._shape) == 1:  # the model decodes
            array = self._arrays.get(np.dtype(object))
        if array is None:
            return np.empty((0, *self._shape[1:]), np.uint8)
        return array if len(positions) == len(array) else array[positions]
