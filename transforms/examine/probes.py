"""Calls a model on images that are made from fixed seeds; takes what it answers or refuses."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from transforms.engines.first_ops import InputScale, input_scale
from transforms.engines.tensorflow import freeze
from transforms.errors import Parameter, UserError, one_line
from transforms.examine.description import Description, Tensor
from transforms.models import builtin, loading
from transforms.models.source import ModelSource

_HEAVY_SECONDS, _LIGHT_SIZE = 0.15, 128  # an image that takes longer is made smaller if it may be


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model under examination.

    Attributes:
      loaded: None if it cannot be loaded or has no function for images.
      height, width: of the images that it is called on, in pixels.
      batch_size: the only one that it takes, or None.
      vector_width: N of its vectors [B, N], or None if it gives none.
      input_error, output_error: why not, with the model as its subject; one of them is set where
        `vector_width` is None.
    """

    source: ModelSource
    description: Description
    loaded: loading.LoadedModel | None
    height: int
    width: int
    batch_size: int | None
    vector_width: int | None = None
    input_error: UserError | None = None
    output_error: UserError | None = None

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """float32 [B, N]; a model with a fixed batch size gets full batches."""
        size = self.batch_size or len(images)
        answers = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            padding = np.repeat(batch[-1:], size - len(batch), axis=0)
            answers.append(self.answer(np.concatenate([batch, padding]))[: len(batch)])
        return np.concatenate(answers)

    def answer(self, images: np.ndarray) -> np.ndarray:
        """What the model answers to this very batch."""
        import tensorflow as tf

        assert self.loaded is not None
        answer = self.loaded.call(tf.constant(images)).numpy()
        if answer.ndim != 2 or len(answer) != len(images):
            shapes = f"{list(answer.shape)} to {list(images.shape)}"
            raise UserError(f"answers {shapes}, not [B, N]", subject=self.source.subject)
        return answer

    def first_ops(self) -> InputScale | None:
        """What its first operations make of a pixel; None: its graph cannot be frozen."""
        assert self.loaded is not None
        shape = self.batch_size, self.height, self.width, 3
        frozen = freeze(self.loaded.call, np.dtype(np.float32), shape)
        return input_scale(frozen.inputs[0]) if frozen else None

    @property
    def is_float(self) -> bool:
        """Whether its input can hold values above 1, NaN and infinity."""
        return self.loaded is not None and "float" in self.loaded.dtype

    @property
    def images(self) -> np.ndarray:
        """The probe images, float32 [8, height, width, 3] in [0, 1]."""
        return probe_images(self.height, self.width)

    def output(self) -> Tensor | None:
        """The output that is asked for, as the model declares it."""
        named = {tensor.name: tensor for tensor in self.outputs()}
        only = next(iter(named.values())) if len(named) == 1 else named.get("default")
        return named.get(self.source.output_key or "", only)

    def outputs(self) -> tuple[Tensor, ...]:
        """What the function that is called gives, as the model declares it."""
        called = self.loaded.function if self.loaded else None
        for function in self.description.functions:
            if function.name == called:
                return function.outputs
        return ()

    def remedy(self) -> Parameter | None:
        """The parameter that would make vectors of the output; None: none would, or none need."""
        remedy = self.output_error.remedy if self.output_error else None
        if remedy is None or remedy.value is not None:
            return remedy
        outputs = self.outputs()
        return Parameter(remedy.name, outputs[0].name) if outputs else None


def probe(
    source: ModelSource,
    description: Description,
    loaded: loading.LoadedModel | None,
    refusal: UserError | None,
    image_size: tuple[int, int] | None,
) -> Candidate:
    """Calls the model for the first times: what it takes, and what else need not be tried."""
    usual = description.own.image_size if description.own else builtin.IMAGE_SIZE
    asked = image_size or usual
    if loaded is None or loaded.kind != "pixels":
        what = {"encoded": "encoded images", "example": "serialised tf.Examples"}
        refusal = refusal or UserError(
            f"takes {what[loaded.kind] if loaded else '?'}: string [B]", subject=source.subject
        )
        return Candidate(source, description, loaded, *asked, None, input_error=refusal)
    height, width = loaded.height or asked[0], loaded.width or asked[1]
    if image_size is not None and (height, width) != image_size:
        wanted = Parameter("image_size", "{}x{}".format(*image_size))
        raise UserError(f"the model takes {height}x{width}", subject=wanted)
    subject = Candidate(source, description, loaded, height, width, loaded.batch_size)
    try:
        subject.vectors(subject.images[:1])
        started = time.perf_counter()
        vector_width = subject.vectors(subject.images[:1]).shape[1]
        is_heavy = time.perf_counter() - started > _HEAVY_SECONDS
    except UserError as error:
        return dataclasses.replace(subject, output_error=if_about_model(error))
    except Exception as error:  # noqa: BLE001 - a model raises anything
        failure = UserError(
            f"fails on float32 [1, {height}, {width}, 3]: {one_line(error)}", subject=source.subject
        )
        return dataclasses.replace(subject, input_error=failure)
    if is_heavy and image_size is None and not (loaded.height or loaded.width):
        subject = dataclasses.replace(subject, height=_LIGHT_SIZE, width=_LIGHT_SIZE)
    subject = dataclasses.replace(subject, vector_width=vector_width)
    try:
        subject.vectors(subject.images)
    except Exception:  # noqa: BLE001 - the check of batch sizes tells it
        subject = dataclasses.replace(subject, batch_size=1)
    return subject


def probe_images(height: int, width: int) -> np.ndarray:
    """Eight very different images, always the same: float32 [8, height, width, 3] in [0, 1]."""
    random = np.random.default_rng(8)
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    disc = ((y - 0.5) ** 2 + (x - 0.4) ** 2 < 0.1).astype(float)
    board = (np.floor(y * 8) + np.floor(x * 8)) % 2
    waves = [0.5 + 0.5 * np.sin(20 * (y * a + x * b)) for a, b in ((1, 0.2), (0.3, 1), (0.8, 0.9))]
    frame = ((np.abs(y - 0.5) < 0.3) & (np.abs(x - 0.5) < 0.2)).astype(float)
    noise = random.random((2, height, width, 3))
    images = [
        np.stack([y, x, 1 - y], -1),
        np.stack([0.9 * disc, 0.3 + 0.1 * disc, 0.1 + 0 * disc], -1),
        np.stack([board, 0.5 * board, 1 - board], -1),
        np.stack(waves, -1),
        noise[0],
        0.2 * noise[1] * [1, 0.5, 0.2],
        np.stack([1 - 0.1 * frame, 1 - 0.8 * frame, 0.95 - 0.3 * x], -1),
        np.stack([0.1 * y, 0.4 + 0.4 * x, 0.6 + 0.4 * (x > y)], -1),
    ]
    return np.stack(images).astype(np.float32)


def if_about_model(error: UserError) -> UserError:
    """The error; raises it if it is about another parameter than the model."""
    if not (isinstance(error.subject, Parameter) and error.subject.name == "model"):
        raise error
    return error
