"""What cannot be trained on is refused here, before any work, with the name of what is wrong."""

from __future__ import annotations

import numpy as np

from consumers.labelled import Labelled
from transforms.errors import UserError

_BLOCK_BYTES = 32 * 2**20


def refuse_untrainable(labelled: Labelled) -> None:
    """Looks at everything once, vectors in blocks of 32 MiB.

    Raises:
      UserError: no images; fewer than two classes; a class of no image or of one; a vector with NaN
        or infinity, with the id of the first.
    """
    if not len(labelled.ids):
        raise UserError("there are no labelled images to train on; give images with labels")
    if len(labelled.classes) < 2:
        only = f", {labelled.classes[0]!r}" if labelled.classes else ""
        raise UserError(
            f"there is {len(labelled.classes)} class{only}, and a classifier tells at least two "
            "apart; add images of another class"
        )
    for name, count in zip(labelled.classes, images_per_class(labelled), strict=True):
        if count < 2:
            raise UserError(
                f"it has {'one image' if count else 'no image'}, and each class needs two at "
                "least, one to learn from and one to measure with; add images or leave it out",
                subject=f"class {name!r}",
            )
    row = _first_not_finite(labelled.vectors)
    if row is not None:
        raise UserError(
            "its feature vector has a value that is NaN or infinite; embed it anew or leave it out",
            subject=str(labelled.ids[row]),
        )


def images_per_class(labelled: Labelled) -> np.ndarray:
    """How many images each class has: int64 [C]; one of several classes counts for each."""
    if labelled.is_multi_label:
        return labelled.targets.sum(axis=0, dtype=np.int64)
    return np.bincount(labelled.targets, minlength=len(labelled.classes))


def _first_not_finite(vectors: np.ndarray) -> int | None:
    rows = max(1, _BLOCK_BYTES // (4 * max(1, vectors.shape[1])))
    for start in range(0, len(vectors), rows):
        bad = ~np.isfinite(vectors[start : start + rows]).all(axis=1)
        if bad.any():
            return start + int(bad.argmax())
    return None
