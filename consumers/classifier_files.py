"""A classifier as the directory that people get: the model, and all that is told of it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from typing import Any

from consumers.export.classifier import save_classifier, save_extractor
from consumers.export.live import LiveExtractor
from consumers.head import Head
from consumers.learning import Learned, Recipe
from consumers.report.card import CardFacts, model_card
from consumers.report.held_out import HeldOut, held_out_csv
from consumers.report.metrics import Metrics
from consumers.report.pictures import confusion_picture, reliability_picture
from consumers.report.suspects import suspects_csv
from consumers.training.checks import images_per_class
from transforms.models.described import ModelDescription
from transforms.models.source import ModelSource

METRICS_FILE, CARD_FILE, SUSPECTS_FILE = "metrics.json", "model_card.md", "label_suspects.csv"
HELD_OUT_FILE = "held_out.csv"
CONFUSION_FILE, RELIABILITY_FILE = "confusion_matrix.png", "reliability.png"
EXTRACTOR_DIRECTORY = "feature_vector"

_LIBRARIES = ("tensorflow", "numpy", "scikit-learn")


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """An extractor with a head, and what is known of both.

    Attributes:
      source: the published model.
      source_sha256: of its files.
      tuned: that model after it was fine-tuned; None: it was not.
      head: at its temperature.
      metrics: on images that were held out.
      held_out: these images, and the answers.
      image_size: height and width in pixels, as the vectors' images had them.
      name: of the classifier.
      data: where the images are from, in words.
      group_column: which images were not torn apart, or None.
      program: that has made it, with its version.
      more: further entries of `metrics.json`, by name.
    """

    source: ModelSource
    source_sha256: str
    tuned: LiveExtractor | None
    head: Head
    metrics: Metrics
    held_out: HeldOut
    image_size: tuple[int, int]
    name: str
    data: str
    group_column: str | None
    program: str
    more: Mapping[str, Any]


def write_classifier(
    directory: str, classifier: Classifier, learned: Learned, recipe: Recipe
) -> None:
    """Writes the SavedModel, its metrics, pictures, card and the labels that are in doubt.

    A model that was fine-tuned is there once more as a feature vector, in `feature_vector/`.

    Args:
      directory: empty; it is for `appears_at_once` to make it whole.
      classifier: what to write.
      learned: how the head was made.
      recipe: of it.

    Raises:
      UserError: the extractor cannot be saved.
    """
    metrics = classifier.metrics
    activation: Any = "sigmoid" if metrics.is_multi_label else "softmax"
    labels = learned.labelled.classes
    size, program = classifier.image_size, classifier.program
    save_classifier(
        directory,
        classifier.tuned or classifier.source,
        classifier.head,
        ModelDescription("classification", labels, activation, size, program),
    )
    if classifier.tuned is not None:
        save_extractor(
            os.path.join(directory, EXTRACTOR_DIRECTORY),
            classifier.tuned,
            ModelDescription("feature_vector", (), "none", size, program),
        )
    told = {**metrics.as_json(), "head": learned.fitted.description, **classifier.more}
    _write(directory, METRICS_FILE, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    _write(directory, HELD_OUT_FILE, held_out_csv(classifier.held_out, labels))
    _write(directory, SUSPECTS_FILE, suspects_csv(learned.suspects))
    _write(directory, CARD_FILE, model_card(_facts(classifier, learned, recipe)))
    if metrics.confusion is not None:
        _write(directory, CONFUSION_FILE, confusion_picture(metrics.confusion, labels))
    picture = reliability_picture(metrics.reliability_before, metrics.reliability)
    _write(directory, RELIABILITY_FILE, picture)


def _write(directory: str, name: str, content: str | bytes) -> None:
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with open(os.path.join(directory, name), "xb") as file:
        file.write(data)


def _facts(classifier: Classifier, learned: Learned, recipe: Recipe) -> CardFacts:
    training = learned.labelled.take(learned.sides.train)
    chosen = {
        name: value
        for name, value in learned.fitted.description.items()
        if isinstance(value, (str, int, float, bool))
    }
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    program, _, version = classifier.program.partition(" ")
    return CardFacts(
        name=classifier.name,
        extractor=classifier.source.name,
        extractor_digest=classifier.source_sha256,
        is_fine_tuned=classifier.tuned is not None,
        image_size=classifier.image_size,
        data=classifier.data,
        training_counts=tuple(map(int, images_per_class(training))),
        training_images=len(training.ids),
        held_out=recipe.held_out,
        group_column=classifier.group_column,
        seed=recipe.seed,
        near_duplicates=learned.near_duplicates,
        duplicate_cosine=learned.near_duplicate,
        head={"method": learned.fitted.method, **chosen},
        suspects=len(learned.suspects),
        metrics=classifier.metrics,
        versions={program: version, "python": platform.python_version(), **versions},
    )
