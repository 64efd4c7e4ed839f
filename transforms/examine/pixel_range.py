"""For which range of pixels a model was trained: by what it answers, and by its first operations.

A model that is made for [0, 255] takes all images in [0, 1] for black ones: their vectors hardly
differ from a black image's, and with [0, 255] they do. What a classifier answers is taken before
its softmax or sigmoid, which would hide how far apart answers are that are sure of themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from transforms.engines.first_ops import InputScale
from transforms.errors import Message, Parameter
from transforms.models.source import UNIT_RANGE, ModelSource, range_text

BYTE_RANGE = (0.0, 255.0)

# Measured on photos and digits: 0.0004 to 0.04 where models for [0, 255] got [0, 1] and were wrong
# for it, 0.5 to 5 everywhere else.
_STILL, _MOVES = 0.1, 5.0
_DARK = 0.05
_SMALLEST = 1e-300


@dataclasses.dataclass(frozen=True)
class SeenRange:
    """What was seen.

    Attributes:
      unit, byte: how far images' vectors are from a black image's, over their length, for pixels
        in [0, 1] and in [0, 255]; the median.
      first_ops: what the model's first operations make of a pixel; None: not known.
    """

    unit: float
    byte: float
    first_ops: InputScale | None = None

    @property
    def is_constant(self) -> bool:
        """Whether images make no difference at all."""
        return max(self.unit, self.byte) < 1e-6

    @property
    def is_for_bytes(self) -> bool:
        """Whether it looks trained for [0, 255]."""
        if self.first_ops is not None and self.first_ops.is_for_bytes:
            return True
        return self.unit < _STILL and self.byte > _MOVES * self.unit and not self.is_constant

    def told(self, value_range: tuple[float, float]) -> tuple[bool, Message]:
        """Whether there is something to warn of in a model that gets this range, and what."""
        seen = (
            f"images' vectors are {self.unit:.2g} of their length from a black image's for [0, 1], "
            f"{self.byte:.2g} for [0, 255]"
        )
        if self.is_constant:
            return True, Message((f"{seen}: different images give the same vector",))
        if not self.is_for_bytes or value_range != UNIT_RANGE:
            return False, Message((seen,))
        if self.first_ops is not None and self.first_ops.is_for_bytes:
            seen += (
                f"; its first operations make {self.first_ops.offset:.2g} of 0, "
                f"{self.first_ops.scale + self.first_ops.offset:.2g} of 1 and "
                f"{255 * self.first_ops.scale + self.first_ops.offset:.2g} of 255"
            )
        given = Parameter("value_range", range_text(BYTE_RANGE))
        text = f"{seen}: it looks trained for [0, 255], but gets [0, 1]; "
        return True, Message((text, given, " gives it those"))


def see_range(
    answer: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    source: ModelSource,
    first_ops: InputScale | None = None,
) -> SeenRange:
    """Calls a model on black, dim and bright versions of images.

    Args:
      answer: from images [B, H, W, 3], float32 in [0, 1], to vectors [B, N]; what it does to get
        them into the model's range is undone here.
      images: a few, none of them dark all over.
      source: the model.
      first_ops: of the model without what puts images into its range.
    """

    low, high = source.value_range

    def of(pixels: np.ndarray) -> np.ndarray:
        return answer(((pixels - low) / (high - low)).astype(np.float32))

    black, unit, byte = _before_squashing(of(0 * images[:1]), of(images), of(255 * images))
    return SeenRange(_moved(black, unit), _moved(black, byte), first_ops)


def bright_enough(images: np.ndarray) -> np.ndarray:
    """Those of the images that differ from black ones."""
    return images[images.mean(axis=(1, 2, 3)) > _DARK]


def _moved(black: np.ndarray, vectors: np.ndarray) -> float:
    """Infinite where a vector is: it overflows, which is far from a black image's."""
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.maximum(np.linalg.norm(vectors, axis=1), _SMALLEST)
        moved = np.linalg.norm(vectors - black, axis=1) / lengths
    return float(np.median(np.where(np.isfinite(moved), moved, np.inf)))


def _before_squashing(*answers: np.ndarray) -> list[np.ndarray]:
    """Logits, up to a constant, where all answers are probabilities; else the answers."""
    wide = [answer.astype(np.float64) for answer in answers]
    every = np.concatenate(wide)
    if every.shape[1] > 1 and (every >= 0).all() and np.allclose(every.sum(axis=1), 1, atol=1e-3):
        logs = [np.log(np.maximum(answer, 1e-30)) for answer in wide]
        return [log - log.mean(axis=1, keepdims=True) for log in logs]
    if (every >= 0).all() and (every <= 1).all():
        clipped = [np.clip(answer, 1e-7, 1 - 1e-7) for answer in wide]
        return [np.log(answer / (1 - answer)) for answer in clipped]
    return wide
