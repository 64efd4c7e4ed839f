"""What a training is asked to do, as small frozen values."""

from __future__ import annotations

import dataclasses

from consumers.learning import Recipe
from consumers.relearning import HeadLosses, TuningPlaces
from consumers.tuning.options import TuningOptions
from pipeline.options.values import ModelOptions, RunOptions


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """Where the labels are.

    Attributes:
      column: of the features; None: `csv` or the folders.
      csv: a local file; None: none.
      group_column: of the features, or None.
      is_multi_label: whether lines of `csv` add up.
    """

    column: str | None
    csv: str | None
    group_column: str | None
    is_multi_label: bool


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How the model itself is trained.

    Attributes:
      options, losses, places: as of `relearn`.
    """

    options: TuningOptions
    losses: HeadLosses
    places: TuningPlaces


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """All of it.

    Attributes:
      features: directory of the vectors.
      embedding: the run that makes them of `image_dir`; None: they are there.
      image_dir: a directory with a folder for each class, as images are named by; or None.
      labels, recipe: what to learn, and how.
      tuning: how the model itself is trained; None: it is not.
      model: what has made the vectors.
      output: directory of the result; None: only `tflite` and `labels_file` are wanted.
      overwrite: whether it is replaced.
      tflite, labels_file: further files, or None.
      accuracy_wanted: what is not written if it is less accurate; or None.
      notes: what is to be said of options that have no effect.
    """

    features: str
    embedding: RunOptions | None
    image_dir: str | None
    labels: LabelOptions
    recipe: Recipe
    tuning: Tuning | None
    model: ModelOptions
    output: str | None
    overwrite: bool
    tflite: str | None
    labels_file: str | None
    accuracy_wanted: float | None
    notes: tuple[str, ...]
