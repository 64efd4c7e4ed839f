"""Logits to scores and to the best classes. Which activation is the publisher's to say."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa

Activation = Literal["none", "softmax", "sigmoid"]

TOP_K_TYPE = pa.struct([("index", pa.int32()), ("label", pa.string()), ("score", pa.float32())])


def top_k_column(
    logits: np.ndarray, top_k: int, activation: Activation, class_names: tuple[str, ...] = ()
) -> pa.ListArray:
    """The `top_k` best classes of each row, best first.

    Args:
      logits: float32 [B, C].
      top_k: how many.
      activation: what makes the scores of the logits.
      class_names: names of the C classes, or empty.

    Returns:
      lists of `TOP_K_TYPE`.
    """
    scores = activate(logits, activation)
    # By the logits: scores that are equal after rounding would lose the order. NaN comes last.
    best = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    flat = best.reshape(-1)
    labels = [class_names[index] if class_names else None for index in flat]
    structs = pa.StructArray.from_arrays(
        [
            pa.array(flat, pa.int32()),
            pa.array(labels, pa.string()),
            pa.array(np.take_along_axis(scores, best, axis=1).reshape(-1), pa.float32()),
        ],
        fields=list(TOP_K_TYPE),
    )
    offsets = np.arange(len(logits) + 1, dtype=np.int32) * best.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), structs)


def activate(logits: np.ndarray, activation: Activation) -> np.ndarray:
    """Scores of logits: float [B, C] to float32 [B, C].

    >>> activate(np.array([[0.0, 0.0]]), "softmax").tolist()
    [[0.5, 0.5]]
    """
    logits = logits.astype(np.float32)
    if activation == "softmax":
        with np.errstate(invalid="ignore"):  # an infinite logit makes NaN scores
            exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)
    if activation == "sigmoid":
        small = np.exp(-np.abs(logits))
        return np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return logits
