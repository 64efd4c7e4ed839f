"""Vectors of which one knows what is in them."""

from __future__ import annotations

import numpy as np

from consumers.labelled import Labelled


def clusters(images: int, width: int, classes: int, seed: int = 0, apart: float = 0.5) -> Labelled:
    """Overlapping Gaussian clusters, sorted by class as a folder of folders is."""
    random = np.random.default_rng(seed)
    centres = apart * random.standard_normal((classes, width))
    targets = np.sort(random.permutation(images) % classes)
    vectors = centres[targets] + random.standard_normal((images, width)) + 3
    return labelled(vectors.astype(np.float32), targets)


def labelled(
    vectors: np.ndarray, targets: np.ndarray, groups: np.ndarray | None = None
) -> Labelled:
    count = targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1
    ids = np.array([f"{number}.jpg" for number in range(len(vectors))], object)
    classes = tuple(f"class {number:02d}" for number in range(count))
    return Labelled(ids, vectors, targets, classes, groups)
