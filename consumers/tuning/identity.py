"""All that decides the weights that a fine-tuning ends with; how often it is saved does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from consumers.head import Head
from consumers.tuning.images import LabelledImage
from consumers.tuning.options import TuningOptions
from transforms.images.spec import ImageSpec
from transforms.models.trainable import TrainableModel


def what_decides(
    model: TrainableModel,
    head: Head,
    training: Sequence[LabelledImage],
    validation: Sequence[LabelledImage],
    image: ImageSpec,
    options: TuningOptions,
    weights: Sequence[np.ndarray],
    head_of: str,
) -> Iterator[str | bytes]:
    """Texts and bytes that are the same for two runs if their results are to be the same.

    Args:
      model: by how it is called; where its files lie decides nothing.
      head: by what it costs and drops.
      training, validation: by id, version and target.
      image: size and limits.
      options: but for `checkpoint_steps`.
      weights: before the first step.
      head_of: what the head was made of, where its weights are not among them: two fits may differ
        in their last digits, and only the first one's are used.
    """
    called = model.source
    yield repr((dataclasses.replace(options, checkpoint_steps=1), image))
    yield repr((called.arguments, called.value_range, called.layout, called.pool))
    yield head_of
    yield repr((called.output_key, head.dropout_rate, head.l1, head.l2))
    for images in (training, validation):
        yield str(len(images))
        for labelled in images:
            yield repr((labelled.ref.id, labelled.ref.version, labelled.target))
    for values in weights:
        yield repr((values.shape, str(values.dtype)))
        yield values.tobytes()
