"""A small classifier as the trainer exports it, and the extractor and head that it is made of."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib

import numpy as np

from consumers.export.classifier import save_classifier
from consumers.head import Dense, Head
from tests.helpers import model_forms
from transforms.models.described import ModelDescription
from transforms.models.loading import load_model
from transforms.models.source import ModelSource

LABELS = ("daisy", "rosé", "a tulip")
DESCRIPTION = ModelDescription(
    task="classification",
    labels=LABELS,
    activation="softmax",
    image_size=(model_forms.SIZE, model_forms.SIZE),
    program="tests 1.0",
)


def random_head(width: int, *hidden: int, classes: int = len(LABELS), **same: float) -> Head:
    """A head of random weights for vectors of `width` values."""
    random = np.random.default_rng(width)
    sizes = (width, *hidden, classes)
    layers = (
        Dense(
            random.normal(size=(fan_in, fan_out)).astype(np.float32) / fan_in,
            random.normal(size=fan_out).astype(np.float32),
        )
        for fan_in, fan_out in itertools.pairwise(sizes)
    )
    return Head(tuple(layers), **same)


def noise(count: int, size: tuple[int, int] = (model_forms.SIZE, model_forms.SIZE)) -> np.ndarray:
    """Images of noise, float32 [count, height, width, 3] in [0, 1]."""
    return np.random.default_rng(count).random((count, *size, 3), dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class SmallClassifier:
    """An exported classifier of noise, and what it is made of."""

    path: str
    source: ModelSource
    head: Head

    def expected(self, images: np.ndarray) -> np.ndarray:
        """The logits, by the extractor as it was published and NumPy."""
        return self.head.logits(load_model(self.source).call(images).numpy())


def save_small_classifier(
    directory: pathlib.Path, size: tuple[int, int] | None = None, **same: float
) -> SmallClassifier:
    """Saves a classifier on a Reusable SavedModel that has dropout and a loss of its own.

    With `size` the extractor takes images of any size, and this is the one it was trained at.
    """
    model_forms.reusable(directory / "extractor", free=size is not None)
    source = ModelSource(name=str(directory / "extractor"))
    head = random_head(model_forms.WIDTH, 5, **(same or {"dropout_rate": 0.4, "l2": 0.01}))
    path = str(directory / "classifier")
    description = dataclasses.replace(DESCRIPTION, image_size=size or DESCRIPTION.image_size)
    save_classifier(path, source, head, description)
    return SmallClassifier(path, source, head)
