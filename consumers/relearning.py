"""Fine-tunes the model under a head that was learnt on its vectors, with the same split."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from consumers.head import Head
from consumers.labelled import Labelled
from consumers.learning import Learned, Recipe, Say, answers_at, measure
from consumers.report.calibration import temperature
from consumers.report.held_out import HeldOut
from consumers.report.metrics import Metrics
from consumers.training.fit import fit_head
from consumers.training.split import split_images
from consumers.tuning import network
from consumers.tuning.fine_tuning import Tuned, fine_tune
from consumers.tuning.images import LabelledImage, read_labelled
from consumers.tuning.options import TuningOptions
from consumers.tuning.scoring import validated
from transforms.errors import Parameter, UserError
from transforms.images.spec import ImageSpec
from transforms.models.trainable import TrainableModel
from transforms.refs import ImageRef

# Of the images that are learnt from: tells when to stop, and the temperature.
_VALIDATION = 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class Relearned:
    """A fine-tuned model with its head.

    Attributes:
      tuned: what came out of fine-tuning, its validation images among it.
      head: the head at the temperature that is right for the validation images.
      metrics: of both on the images that were held out, which nothing has seen before.
      held_out: the answers that they are of.
    """

    tuned: Tuned
    head: Head
    metrics: Metrics
    held_out: HeldOut


@dataclasses.dataclass(frozen=True)
class HeadLosses:
    """What keeps the head from learning the images by heart while the model is fine-tuned.

    Attributes:
      dropout_rate: share of its inputs that is dropped.
      l1, l2: of its kernel.
    """

    dropout_rate: float = 0.2
    l1: float = 0.0
    l2: float = 0.0001

    def __post_init__(self):
        for name in ("dropout_rate", "l1", "l2"):
            value = getattr(self, name)
            if not 0 <= value < (1 if name == "dropout_rate" else math.inf):
                raise UserError("is out of its range", subject=Parameter(name, value))


@dataclasses.dataclass(frozen=True)
class TuningPlaces:
    """Where fine-tuning keeps what it has reached.

    Attributes:
      checkpoints: a directory; the same call goes on from what it finds there.
      summaries: a directory for TensorBoard's logs, or None.
    """

    checkpoints: str
    summaries: str | None


def relearn(
    learned: Learned,
    recipe: Recipe,
    model: TrainableModel,
    refs: Mapping[str, ImageRef],
    image: ImageSpec,
    options: TuningOptions,
    losses: HeadLosses,
    places: TuningPlaces,
    say: Say,
) -> Relearned:
    """Fine-tunes, starting from a head that was learnt on the frozen model's vectors.

    A fifth of the images that are learnt from tells which epoch was the best.

    Args:
      learned: the head, and which images are held out.
      recipe: how it was learnt.
      model: what has made the vectors; its variables are changed.
      refs: where the images are, by id; those that are not there any more are left out.
      image: size and pixels, as the vectors' images had them.
      options: how to train.
      losses: of the head.
      places: of checkpoints and logs.
      say: is given lines for the person who waits.

    Raises:
      UserError: the images are not there or too few, or training fails as of `fine_tune`.
    """
    training = learned.labelled.take(learned.sides.train)
    halves = split_images(training, _VALIDATION, recipe.seed)
    head = _head_of(training.take(halves.train), learned, recipe, losses)
    tuned = fine_tune(
        model,
        head,
        _images(training.take(halves.train), refs),
        _images(training.take(halves.held_out), refs),
        image,
        options,
        places.checkpoints,
        places.summaries,
        say,
        head_of=repr(recipe),
    )
    validation = tuned.validation
    targets = validation.targets > 0
    heat = temperature(validation.logits, targets if training.is_multi_label else targets.argmax(1))
    held_out = learned.labelled.take(learned.sides.held_out)
    rows, logits = _answers(model, tuned.head, held_out, refs, image, options.batch_size)
    held_out = held_out.take(rows)
    metrics = measure(logits, held_out, heat, recipe)
    answers = answers_at(logits, held_out, heat)
    return Relearned(tuned, tuned.head.at_temperature(heat), metrics, answers)


def _head_of(training: Labelled, learned: Learned, recipe: Recipe, losses: HeadLosses) -> Head:
    """The head that fine-tuning starts from, made as the other but without the validation images.

    On images that a head was fitted to it is nearly always right, and no epoch would be better.
    """
    chosen = learned.fitted.description.get("l2", recipe.head.l2)
    options = dataclasses.replace(recipe.head, l2=chosen, folds=2)
    fitted = fit_head(training, options, lambda _: None)
    return dataclasses.replace(fitted.head, **dataclasses.asdict(losses))


def _images(labelled: Labelled, refs: Mapping[str, ImageRef]) -> list[LabelledImage]:
    return [
        LabelledImage(refs[name], tuple(map(bool, target)) if target.ndim else int(target))
        for name, target in zip(labelled.ids, labelled.targets, strict=True)
        if name in refs
    ]


def _answers(
    model: TrainableModel,
    head: Head,
    held_out: Labelled,
    refs: Mapping[str, ImageRef],
    image: ImageSpec,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The positions of images that could be read, and their logits."""
    there = np.flatnonzero([name in refs for name in held_out.ids])
    images: Sequence[LabelledImage] = _images(held_out, refs)
    joined = network.Network(model, head)
    logits = network.evaluation(joined, (image.height, image.width))
    order = np.arange(len(images))
    batches = read_labelled(images, order, joined.classes, image, batch_size)
    found = validated(logits, batches, held_out.is_multi_label)
    if found is None:
        raise UserError("none of the images that were held out can be read any more")
    return there[found.rows], found.logits
