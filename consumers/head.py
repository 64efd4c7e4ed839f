"""What stands on an extractor: from a feature vector to logits, as plain arrays.

A head is made on stored vectors without TensorFlow, and put onto the extractor when it is exported.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Dense:
    """One dense layer.

    Attributes:
      kernel: float32 [in, out].
      bias: float32 [out].
      unit: float32 [in, 1] or a number: what was regularised is `kernel * unit`, the kernel before
        something else was multiplied into it.
    """

    kernel: np.ndarray
    bias: np.ndarray
    unit: np.ndarray | float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """Dense layers with ReLU between them; the last one gives the logits.

    Standardised vectors and a temperature need no layers of their own: they are multiplied into the
    kernels and biases that there are.

    Attributes:
      layers: at least one.
      dropout_rate: share of the last layer's inputs that is dropped while training; 0 for none.
      l1, l2: strengths with which the sums of |w| and w² of each `kernel * unit` are regularisation
        losses.

    >>> head = Head((Dense(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)),))
    >>> head.logits(np.array([[1.0, 3.0]], np.float32)).tolist()
    [[1.0, 3.0]]
    """

    layers: tuple[Dense, ...]
    dropout_rate: float = 0.0
    l1: float = 0.0
    l2: float = 0.0

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """The logits of vectors: float32 [n, N] to float32 [n, C]."""
        *hidden, last = self.layers
        for layer in hidden:
            vectors = np.maximum(vectors @ layer.kernel + layer.bias, 0)
        return vectors @ last.kernel + last.bias

    def at_temperature(self, temperature: float) -> Head:
        """The head whose logits are divided by `temperature`; the best class stays the best."""
        *hidden, last = self.layers
        scale = np.float32(1 / temperature)
        return dataclasses.replace(
            self,
            layers=(
                *hidden,
                Dense(last.kernel * scale, last.bias * scale, last.unit / float(scale)),
            ),
        )

    def on_standardised(self, mean: np.ndarray, deviation: np.ndarray) -> Head:
        """This head, made for `(x - mean) / deviation`, as one for `x`.

        Args:
          mean, deviation: float [N]; no deviation is 0.
        """
        first, *others = self.layers
        kernel = first.kernel / deviation[:, None]
        bias = first.bias - mean @ kernel
        unit = (first.unit * deviation[:, None]).astype(np.float32)
        folded = Dense(kernel.astype(np.float32), bias.astype(np.float32), unit)
        return dataclasses.replace(self, layers=(folded, *others))
