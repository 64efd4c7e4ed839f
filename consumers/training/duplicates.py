"""Which images are nearly the same picture, so that no two of them stand on both sides of a split.

Every pair is looked at, yet few in full. The distance of two vectors of length 1 is never less than
that of their shadows on a few directions, so pairs whose shadows are far apart are done with; the
others are compared whole. Nothing is missed, unlike in hashing: the recall is 1.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import numpy as np

from transforms.errors import Parameter, UserError

NEAR_DUPLICATE = 0.99

_DIRECTIONS = 31
_SAMPLE = 8192
_BLOCK = 2048
_PAIRS_AT_ONCE = 4096
_MOST_EDGES = 4_000_000
_MANY_IMAGES, _SECONDS_BETWEEN_LINES = 50_000, 20
# Of cosines, and of squared distances of shadows from numbers up to 4; both in float32.
_ROUNDING, _SHADOWS_ROUNDING = 1e-6, 8e-6


def near_duplicate_groups(
    vectors: np.ndarray,
    threshold: float = NEAR_DUPLICATE,
    progress: Callable[[str], None] | None = None,
) -> np.ndarray:
    """Groups of images that are chained by near duplicates.

    Time grows with n², from a small share of a full comparison (vectors that differ) to all of it
    (vectors that are all alike); memory beyond the vectors with n: some 300 bytes an image.

    Args:
      vectors: float32 [n, N], finite; it may be a memory map. One of length 0 is like none.
      threshold: the cosine from which on two vectors are near duplicates, above 0 and at most 1.
        The default: of photos' crops saved again as JPEG, the built-in model's vectors have it for
        89 % at quality 90 and 41 % at 75; of scikit-learn's 1,797 digits, all of them written anew,
        4 have it with another.
      progress: of more than 50,000 images, is told about every 20 s how far it is.

    Returns:
      int64 [n]: the number of each image's group, counted from 0 in the order of first images.

    Raises:
      UserError: the threshold is no such cosine.

    >>> vectors = np.array([[1, 0], [0, 1], [1, 0.01], [0, 0]], np.float32)
    >>> near_duplicate_groups(vectors).tolist()
    [0, 1, 0, 2]
    """
    if not 0 < threshold <= 1:
        raise UserError(
            "a cosine above 0 and at most 1 is needed", subject=Parameter("threshold", threshold)
        )
    count = len(vectors)
    if count < 2:
        return np.arange(count)
    shadows = _shadows(vectors)
    # In the order of the widest direction, blocks that are far apart in it need no look at all.
    order = np.argsort(shadows[:, 0], kind="stable")
    shadows = shadows[order]
    reach, threshold = 2 - 2 * threshold + _SHADOWS_ROUNDING, threshold - _ROUNDING
    edges, held = [np.empty((0, 2), np.int64)], 0
    say = progress if progress and count > _MANY_IMAGES else None
    began = told = time.monotonic()
    for start in range(0, count, _BLOCK):
        rows = shadows[start : start + _BLOCK]
        last = np.searchsorted(shadows[:, 0], rows[-1, 0] + np.sqrt(reach), side="right")
        for other_start in range(start, last, _BLOCK):
            others = shadows[other_start : min(other_start + _BLOCK, last)]
            near = _squared_distances(rows, others) <= reach
            if start == other_start:
                near = np.triu(near, 1)
            found = np.flatnonzero(near)
            if not len(found):
                continue
            left, right = np.divmod(found, len(others))
            left, right = order[start + left], order[other_start + right]
            if len(found) > near.size // 16:
                ours = order[start : start + len(rows)]
                theirs = order[other_start : other_start + len(others)]
                is_pair = _blocks_cosines(vectors, ours, theirs).ravel()[found] >= threshold
            else:
                is_pair = _pairs_cosines(vectors, left, right) >= threshold
            if not is_pair.any():
                continue
            edges.append(_forest(np.stack([left[is_pair], right[is_pair]], axis=1), count))
            held += len(edges[-1])
            if held > _MOST_EDGES:
                edges = [_forest(np.concatenate(edges), count)]
                held = len(edges[0])
        now = time.monotonic()
        if say and now - told >= _SECONDS_BETWEEN_LINES:
            told = now
            say(_how_far(start + len(rows), count, now - began))
    return _components(np.concatenate(edges), count)


def equal_vector_groups(vectors: np.ndarray) -> np.ndarray:
    """Groups of images whose vectors are the same to the last bit.

    Args:
      vectors: float32 [n, N]; it may be a memory map.

    Returns:
      int64 [n]: the number of each image's group, counted from 0 in the order of first images.

    >>> equal_vector_groups(np.array([[1, 0], [0, 1], [1, 0]], np.float32)).tolist()
    [0, 1, 0]
    """
    numbers: dict[bytes, int] = {}
    groups = np.empty(len(vectors), np.int64)
    for row, vector in enumerate(vectors):
        digest = hashlib.blake2b(vector.tobytes(), digest_size=16).digest()
        groups[row] = numbers.setdefault(digest, len(numbers))
    return groups


def joined_groups(groups: np.ndarray, others: np.ndarray | None) -> np.ndarray:
    """The finest groups that keep together what either keeps together: int64 [n].

    >>> joined_groups(np.array([0, 1, 1, 2]), np.array([7, 7, 8, 9])).tolist()
    [0, 0, 0, 1]
    """
    if others is None:
        return groups
    edges = []
    for numbers in (groups, others):
        _, first, place = np.unique(numbers, return_index=True, return_inverse=True)
        edges.append(np.stack([np.arange(len(numbers)), first[place]], axis=1))
    return _components(np.concatenate(edges), len(groups))


def images_not_alone(groups: np.ndarray) -> int:
    """How many images share their group with another: of near duplicates, those that have one.

    >>> images_not_alone(np.array([0, 1, 0, 2, 0]))
    3
    """
    _, counts = np.unique(groups, return_counts=True)
    return int(counts[counts > 1].sum())


def _how_far(done: int, count: int, seconds: float) -> str:
    """A line; pairs with later images only are compared, so that the rows get faster and faster.

    >>> _how_far(50_000, 100_000, 90.0)
    'near duplicates: 50,000 of 100,000 images compared with all others, about 30 s left'
    """
    left = (1 - done / count) ** 2
    return (
        f"near duplicates: {done:,} of {count:,} images compared with all others, about "
        f"{seconds * left / (1 - left):,.0f} s left"
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors at length 1: float32; zeros stay zeros."""
    block = np.array(vectors, np.float32)
    largest = np.abs(block).max(axis=1, keepdims=True)  # its square may overflow
    block /= np.where(largest == 0, 1, largest)
    lengths = np.linalg.norm(block, axis=1, keepdims=True)
    return block / np.where(lengths == 0, 1, lengths)


def _shadows(vectors: np.ndarray) -> np.ndarray:
    """Float32 [n, directions + 1]: places in the widest directions, and the length of the rest.

    That length is one more coordinate: it, too, differs at most as much as the vectors do.
    """
    count, width = vectors.shape
    sample = _unit(vectors[:: -(-count // _SAMPLE)])
    centre = sample.mean(axis=0)
    spread = sample - centre
    _, axes = np.linalg.eigh(spread.T.astype(np.float64) @ spread)
    axes = axes[:, ::-1][:, : min(_DIRECTIONS, width)].astype(np.float32)
    shadows = np.empty((count, axes.shape[1] + 1), np.float32)
    for start in range(0, count, _BLOCK):
        block = _unit(vectors[start : start + _BLOCK]) - centre
        inside = block @ axes
        outside = (block**2).sum(axis=1) - (inside**2).sum(axis=1)
        shadows[start : start + _BLOCK, :-1] = inside
        shadows[start : start + _BLOCK, -1] = np.sqrt(np.maximum(outside, 0))
    return shadows


def _squared_distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances of all pairs in one product: |a|² + |b|² − 2ab."""
    ones = np.ones((len(rows), 1), np.float32)
    left = np.concatenate([-2 * rows, (rows**2).sum(axis=1, keepdims=True), ones], axis=1)
    ones = np.ones((len(others), 1), np.float32)
    right = np.concatenate([others, ones, (others**2).sum(axis=1, keepdims=True)], axis=1)
    return left @ right.T


def _pairs_cosines(vectors: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    cosines = np.empty(len(left), np.float32)
    for start in range(0, len(left), _PAIRS_AT_ONCE):
        pairs = slice(start, start + _PAIRS_AT_ONCE)
        a, b = _unit(vectors[left[pairs]]), _unit(vectors[right[pairs]])
        cosines[pairs] = np.einsum("ij,ij->i", a, b)
    return cosines


def _blocks_cosines(vectors: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return _unit(vectors[ours]) @ _unit(vectors[theirs]).T


def _components(edges: np.ndarray, count: int) -> np.ndarray:
    """The number of each node's connected component, in the order of first nodes: int64 [n]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(edges), bool)
    graph = coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, numbers = connected_components(graph, directed=False)
    _, first, place = np.unique(numbers, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place].astype(np.int64)


def _forest(edges: np.ndarray, count: int) -> np.ndarray:
    """As few edges as join the same nodes."""
    if len(edges) < 2:
        return edges
    nodes, place = np.unique(edges, return_inverse=True)
    numbers = _components(place.reshape(edges.shape), len(nodes))
    _, first = np.unique(numbers, return_index=True)
    star = np.stack([nodes[first[numbers]], nodes], axis=1)
    return star[star[:, 0] != star[:, 1]]
