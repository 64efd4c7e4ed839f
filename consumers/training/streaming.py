"""Logistic regression on vectors that are read in blocks: an array, or a map of one on disk.

L-BFGS on the whole objective, whose value and gradient are sums over blocks. So the order of the
images does not matter (a folder lies sorted by class), there is no rate to choose, and what comes
out is the optimum that scikit-learn's `LogisticRegression` has. Memory beyond the vectors is that
of some blocks, 256 MiB at most, and some fifty heads. For vectors that take hours to read once, it
is the wrong tool.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from consumers.head import Dense

# The share of itself by which a step has to make the objective less.
ROUGH, EXACT = 1e-5, 1e-6

MOST_PASSES = 200
"""Over the images, in one search."""

_NOT_ENOUGH_PASSES = 1  # L-BFGS-B's status
_BLOCK_BYTES = 16 * 2**20
# Vectors in fewer bytes are gathered once, and not in each pass.
_KEPT_BYTES = 256 * 2**20
# A dimension that varies less than this share of its size is constant but for rounding.
_CONSTANT = 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Standardisation:
    """How vectors are brought to mean 0 and deviation 1 in each dimension.

    Attributes:
      mean, deviation: float32 [N]; the deviation is 1 where the vectors do not vary.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Standardisation:
        """That of float32 [n, N], read twice in blocks."""
        total = np.zeros(vectors.shape[1])
        for block in _blocks(vectors, np.arange(len(vectors))):
            total += block.sum(axis=0, dtype=np.float64)
        mean = total / len(vectors)
        squares = np.zeros(vectors.shape[1])
        for block in _blocks(vectors, np.arange(len(vectors))):
            squares += ((block - mean.astype(np.float32)) ** 2).sum(axis=0, dtype=np.float64)
        deviation = np.sqrt(squares / len(vectors))
        deviation[deviation <= _CONSTANT * np.abs(mean) + np.finfo(np.float32).tiny] = 1
        return cls(mean.astype(np.float32), deviation.astype(np.float32))


@dataclasses.dataclass(frozen=True)
class Penalty:
    """What the kernel of a layer on standardised vectors costs, beside the mean log loss.

    Attributes:
      l1, l2: of the sums of |w| and w²; scikit-learn's `C` is `1 / (2 * n * l2)`.
    """

    l1: float = 0.0
    l2: float = 0.0


def solve(
    vectors: np.ndarray,
    rows: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    scale: Standardisation,
    penalty: Penalty,
    start: Dense,
    tolerance: float = EXACT,
) -> tuple[Dense, bool]:
    """The layer that has the least mean log loss and penalty.

    Args:
      vectors: float32 [n, N].
      rows: int64 [m], the positions of those to learn from.
      targets: of the rows: int64 [m] for softmax; bool [m, C] for a sigmoid each class, whose log
        losses are added.
      weights: of the rows: float32 [m], or [m, C] with bool targets.
      scale: of the vectors.
      penalty: as in `Penalty`.
      start: where to begin; it gives the number of classes.
      tolerance: the search ends with a step that makes less of a difference: `ROUGH` is enough to
        choose by.

    Returns:
      The layer on standardised vectors, and whether `MOST_PASSES` over the images were enough.
    """
    from scipy.optimize import minimize

    shape = start.kernel.shape
    total = float(weights.sum(dtype=np.float64)) / (shape[1] if targets.ndim == 2 else 1)

    kept = []
    if 4 * len(rows) * shape[0] <= _KEPT_BYTES:
        kept = [block - scale.mean for block in _blocks(vectors, rows)]

    def smooth(kernel: np.ndarray, bias: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        loss, by_kernel, by_bias = 0.0, np.zeros(shape), np.zeros(shape[1])
        scaled = (kernel / scale.deviation[:, None]).astype(np.float32)
        at = 0
        for block in kept or (block - scale.mean for block in _blocks(vectors, rows)):
            part = slice(at, at + len(block))
            at += len(block)
            logits = block @ scaled + bias.astype(np.float32)
            block_loss, by_logits = _log_loss(logits, targets[part], weights[part])
            loss += block_loss
            by_kernel += block.T @ by_logits
            by_bias += by_logits.sum(axis=0, dtype=np.float64)
        by_kernel /= total * scale.deviation[:, None]
        by_kernel += 2 * penalty.l2 * kernel
        return loss / total + penalty.l2 * float((kernel**2).sum()), by_kernel, by_bias / total

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        kernel = flat[:size].reshape(shape)
        if not penalty.l1:
            loss, by_kernel, by_bias = smooth(kernel, flat[size:])
            return loss, np.concatenate([by_kernel.ravel(), by_bias])
        negative = flat[size : 2 * size].reshape(shape)
        loss, by_kernel, by_bias = smooth(kernel - negative, flat[2 * size :])
        loss += penalty.l1 * float(flat[: 2 * size].sum())
        parts = (by_kernel + penalty.l1).ravel(), (penalty.l1 - by_kernel).ravel(), by_bias
        return loss, np.concatenate(parts)

    size, kernel, bias = start.kernel.size, start.kernel.ravel(), start.bias
    first, bounds = np.concatenate([kernel, bias]), None
    if penalty.l1:  # |w| has no gradient at 0; the sum of two numbers that are not negative has
        first = np.concatenate([np.maximum(kernel, 0), np.maximum(-kernel, 0), bias])
        bounds = [(0, None)] * (2 * size) + [(None, None)] * len(bias)
    options = {"ftol": tolerance, "gtol": tolerance, "maxfun": MOST_PASSES}
    found = minimize(
        objective,
        first.astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options=options,
    )
    best = found.x
    kernel = best[:size] - best[size : 2 * size] if penalty.l1 else best[:size]
    layer = Dense(kernel.reshape(shape).astype(np.float32), best[-shape[1] :].astype(np.float32))
    # Where a step gets lost in the rounding of float32, it is no success either, but near enough.
    return layer, found.status != _NOT_ENOUGH_PASSES


def standardised_logits(
    layer: Dense, vectors: np.ndarray, rows: np.ndarray, scale: Standardisation
) -> np.ndarray:
    """Float32 [m, C]: what a layer on standardised vectors answers to some of them, by blocks."""
    logits = np.empty((len(rows), len(layer.bias)), np.float32)
    at = 0
    for block in _blocks(vectors, rows):
        answer = ((block - scale.mean) / scale.deviation) @ layer.kernel + layer.bias
        logits[at : at + len(block)] = answer
        at += len(block)
    return logits


def _blocks(vectors: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    count = max(256, _BLOCK_BYTES // (4 * vectors.shape[1]))
    for start in range(0, len(rows), count):
        part = rows[start : start + count]
        if part[-1] - part[0] == len(part) - 1 and (np.diff(part) == 1).all():
            yield np.asarray(vectors[part[0] : part[-1] + 1])
        else:
            yield vectors[part]


def _log_loss(
    logits: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """The sum of weighted log losses, and its gradient by the logits."""
    if targets.ndim == 2:
        from scipy.special import expit

        losses = weights * (np.logaddexp(0, logits) - targets * logits)
        return float(losses.sum(dtype=np.float64)), (expit(logits) - targets) * weights
    images = np.arange(len(targets))
    logits = logits - logits.max(axis=1, keepdims=True)
    of_truth = logits[images, targets]
    np.exp(logits, out=logits)
    sums = logits.sum(axis=1)
    losses = weights * (np.log(sums) - of_truth)
    gradient = logits
    gradient /= sums[:, None]
    gradient[images, targets] -= 1
    gradient *= weights[:, None]
    return float(losses.sum(dtype=np.float64)), gradient
