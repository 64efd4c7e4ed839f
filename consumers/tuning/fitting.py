"""Whether images, model and head fit each other, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from consumers.head import Head
from consumers.tuning.images import LabelledImage
from consumers.tuning.network import untrained_head
from transforms.errors import Parameter, UserError
from transforms.images.spec import ImageSpec
from transforms.models.trainable import TrainableModel


def refuse_unfit(
    model: TrainableModel,
    training: Sequence[LabelledImage],
    validation: Sequence[LabelledImage],
    image: ImageSpec,
) -> None:
    """Raises a UserError where there are no images, or the model takes them of another size."""
    for name, images in (("training", training), ("validation", validation)):
        if not images:
            raise UserError("there are no images", subject=Parameter(name))
    for wanted, given in ((model.height, image.height), (model.width, image.width)):
        if wanted not in (None, given):
            raise UserError(
                f"{model.source.name} takes images of {model.height}×{model.width} pixels",
                subject=Parameter("image_size", f"{image.height}x{image.width}"),
            )


def fitting_head(
    head: Head | None,
    model: TrainableModel,
    images: Sequence[LabelledImage],
    image: ImageSpec,
) -> Head:
    """The head that training starts from; where there is none, one of zeros.

    Raises:
      UserError: it is for vectors of another length than the model's.
    """
    blank = np.zeros((1, image.height, image.width, 3), np.float32)
    features = int(model.call(blank, False).shape[1])
    if head is None:
        targets = [labelled.target for labelled in images]
        classes = max(len(t) if isinstance(t, tuple) else t + 1 for t in targets)
        return untrained_head(features, max(2, classes))
    wanted = len(head.layers[0].kernel)
    if wanted != features:
        raise UserError(
            f"gives vectors of {features} numbers, and the head is for {wanted}",
            subject=model.source.subject,
        )
    return head
