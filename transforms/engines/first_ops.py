"""What a model's first operations make of a pixel: they tell for which range it was trained.

A model with `Rescaling(1/255)`, or one that subtracts a mean of 127, takes pixels in [0, 255].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

# Operations that leave the values as they are, or nearly so.
_KEEP = frozenset(
    """Cast ClipByValue EnsureShape ExpandDims Identity Maximum Minimum MirrorPad Pad PadV2 Reshape
    ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ReverseV2 Round Squeeze
    StopGradient StridedSlice Transpose""".split()  # noqa: SIM905 - a list would be a page
)
_NOT_VALUES = frozenset({"Shape", "Size", "Rank"})
_ON_CONSTANTS: dict[str, Callable[..., Any]] = {
    "AddV2": np.add,
    "Add": np.add,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mul": np.multiply,
    "Neg": np.negative,
    "RealDiv": np.divide,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Sqrt": np.sqrt,
    "Square": np.square,
    "Sub": np.subtract,
}

# Less than one of 40 of the range of floats: 1/255, 1/127.5, or 1/255 over a deviation of 0.2.
_SMALL_SCALE = 1 / 40
_LARGE_MEAN = 2.0


@dataclasses.dataclass(frozen=True)
class InputScale:
    """The first operations' effect on a pixel x, as `scale * x + offset`.

    Attributes:
      scale, offset: of the mean channel.
    """

    scale: float = 1.0
    offset: float = 0.0

    @property
    def is_for_bytes(self) -> bool:
        """Whether it makes small numbers of [0, 255] and next to nothing of [0, 1].

        >>> InputScale(1 / 255).is_for_bytes, InputScale(1.0, -127.5).is_for_bytes
        (True, True)
        >>> InputScale(1 / 0.225, -2.0).is_for_bytes, InputScale(255 / 128, -1.0).is_for_bytes
        (False, False)
        """
        mean = -self.offset / self.scale if self.scale else 0.0
        return 0 < abs(self.scale) < _SMALL_SCALE or mean > _LARGE_MEAN


def input_scale(pixels: Any) -> InputScale:
    """Follows a graph's input through operations with constants, as far as there is one way.

    Args:
      pixels: the input of a frozen graph, a symbolic tensor.
    """
    seen = InputScale()
    while True:
        consumers = {op.name: op for op in pixels.consumers() if op.type not in _NOT_VALUES}
        if len(consumers) != 1:
            return seen
        [op] = consumers.values()
        if op.type not in _KEEP:
            changed = _changed(seen, op, pixels)
            if changed is None:
                return seen
            seen = changed
        if len(op.outputs) != 1:
            return seen
        pixels = op.outputs[0]


def _changed(seen: InputScale, op: Any, pixels: Any) -> InputScale | None:
    """The scale after an operation with a constant; None: it is another operation."""
    if op.type not in ("Mul", "RealDiv", "AddV2", "Add", "BiasAdd", "Sub") or len(op.inputs) != 2:
        return None
    is_first = op.inputs[0] is pixels
    value = _constant(op.inputs[1 if is_first else 0])
    if value is None or value.size not in (1, 3) or (op.type == "RealDiv" and not is_first):
        return None
    constant = float(np.mean(value))
    if op.type == "Mul":
        return InputScale(seen.scale * constant, seen.offset * constant)
    if op.type == "RealDiv":
        return InputScale(seen.scale / constant, seen.offset / constant) if constant else None
    if op.type != "Sub":
        return InputScale(seen.scale, seen.offset + constant)
    if is_first:
        return InputScale(seen.scale, seen.offset - constant)
    return InputScale(-seen.scale, constant - seen.offset)


def _constant(tensor: Any) -> np.ndarray | None:
    """The value of a tensor that follows from constants alone, such as a square root of one."""
    import tensorflow as tf

    op = tensor.op
    if op.type == "Const":
        return np.asarray(tf.make_ndarray(op.get_attr("value")))
    if op.type in ("Identity", "Cast", "Reshape", "ExpandDims", "Squeeze"):
        return _constant(op.inputs[0])
    if op.type in _ON_CONSTANTS:
        values = [value for value in map(_constant, op.inputs) if value is not None]
        if len(values) == len(op.inputs):
            return np.asarray(_ON_CONSTANTS[op.type](*values))
    return None
