"""How a model is fine-tuned."""

from __future__ import annotations

import dataclasses

from transforms.errors import Parameter, UserError


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far training images are moved, as in Keras' `ImageDataGenerator`; each by chance.

    Attributes:
      rotation_range: degrees to either side.
      horizontal_flip: whether half of the images are mirrored.
      width_shift_range, height_shift_range: share of the width and the height, to either side.
      shear_range: degrees to either side.
      zoom_range: from 1 - zoom_range to 1 + zoom_range, of each axis by itself; below 1.
    """

    rotation_range: float = 40.0
    horizontal_flip: bool = True
    width_shift_range: float = 0.2
    height_shift_range: float = 0.2
    shear_range: float = 0.2
    zoom_range: float = 0.2

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 0:
                raise UserError(
                    "must not be negative", subject=Parameter(field.name, getattr(self, field.name))
                )
        if self.zoom_range >= 1:
            raise UserError("must be below 1", subject=Parameter("zoom_range", self.zoom_range))


@dataclasses.dataclass(frozen=True)
class TuningOptions:
    """How a model is fine-tuned: stochastic gradient descent with momentum.

    Attributes:
      epochs: how often each training image is seen, at most.
      batch_size: images a step.
      learning_rate: the highest, after the warm-up; it ends near 0.
      momentum: share of the last step that goes into the next one; below 1.
      warmup: share of all steps in which the learning rate rises to its height.
      clip_norm: longest gradient, above 0. A head that is sure of itself on a network without batch
        norms gives much longer ones in its first steps, after which nothing is learnt any more.
      label_smoothing: share of each target that is spread over all classes.
      patience: epochs without a lower validation loss after which training ends; None: never.
      augmentation: of the training images; None: they are seen as they are.
      checkpoint_steps: steps between two checkpoints; there is one after each epoch, too.
      seed: of the images' order, of augmentation and of dropout.
    """

    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 0.005
    momentum: float = 0.9
    warmup: float = 0.1
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    patience: int | None = 3
    augmentation: Augmentation | None = None
    checkpoint_steps: int = 200
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise UserError("must be at least 1", subject=Parameter(name, getattr(self, name)))
        for name in ("momentum", "warmup", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(
                    "must be from 0 to below 1", subject=Parameter(name, getattr(self, name))
                )
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise UserError("must be over 0", subject=Parameter(name, getattr(self, name)))
