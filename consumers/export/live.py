"""An extractor in this process, with its variables: what a head is put onto and saved with.

Fine-tuning ends with one; `open_extractor` makes one of a published model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from transforms.errors import UserError
from transforms.models.loading import LoadedModel, load_model
from transforms.models.source import ModelSource
from transforms.models.trainable import (
    call_in_training,
    regularization_losses,
    tensorflow_variable,
)


class LiveExtractor(Protocol):
    """What an extractor has, whoever made it."""

    @property
    def call(self) -> Callable[[Any, bool], Any]:
        """From images and `training` to vectors; it can be traced.

        Images are float32 [B, H, W, 3] in [0, 1], `training` is a Python bool, vectors are float32
        [B, N].
        """

    @property
    def variables(self) -> Sequence[Any]:
        """All tf.Variables that it depends on."""

    @property
    def trainable_variables(self) -> Sequence[Any]:
        """Those of them that training may change."""

    @property
    def regularization_losses(self) -> Sequence[Callable[[], Any]]:
        """Functions of no argument, each giving a float32 scalar."""

    @property
    def owner(self) -> Any:
        """The loaded object: keeps the variables alive, and what else the call needs."""

    @property
    def height(self) -> int | None:
        """Of the images in pixels, where it is fixed."""

    @property
    def width(self) -> int | None:
        """Of the images in pixels, where it is fixed."""


@dataclasses.dataclass(frozen=True, eq=False)
class OpenedExtractor:
    """A `LiveExtractor` that was made of a published model; see there."""

    call: Callable[[Any, bool], Any]
    variables: Sequence[Any]
    trainable_variables: Sequence[Any]
    regularization_losses: Sequence[Callable[[], Any]]
    owner: Any
    height: int | None
    width: int | None


def open_extractor(source: ModelSource) -> OpenedExtractor:
    """Loads a published model, of any form, as an extractor from images in [0, 1].

    A Reusable SavedModel is called with `training` where it takes it, and its own lists of
    variables and losses are kept; likewise a `.keras` file. Whatever else there is (a SavedModel
    with signatures, a TF1 Hub module) computes as it was published, and none of its variables is
    trainable. One that takes just so many images gets the batch in parts of that size.

    Raises:
      UserError: as `load_model`; or it takes encoded images.
    """
    loaded = load_model(source)
    if loaded.kind != "pixels":
        raise UserError(
            "decodes the images itself: no classifier of pixels can be made of it",
            subject=source.subject,
        )
    owner = loaded.owner
    call, _ = call_in_training(source, loaded)
    is_trained = source.is_keras_file or loaded.function == "__call__"
    trainable = getattr(owner, "trainable_variables", None) if is_trained else None
    return OpenedExtractor(
        call=_in_batches(call, loaded),
        variables=_variables(owner),
        trainable_variables=list(map(tensorflow_variable, trainable or ())),
        regularization_losses=regularization_losses(owner) if is_trained else [],
        owner=owner,
        height=loaded.height,
        width=loaded.width,
    )


def _in_batches(
    call: Callable[[Any, bool], Any], loaded: LoadedModel
) -> Callable[[Any, bool], Any]:
    """The same for any number of images, where the model takes just so many.

    The last part is filled up with its last image.
    """
    if loaded.batch_size is None:
        return call
    import tensorflow as tf

    size = loaded.batch_size

    def whole(images: Any, training: bool) -> Any:
        count = tf.shape(images)[0]
        filling = tf.repeat(images[-1:], (-count) % size, axis=0)
        filled = tf.concat([images, filling], 0)
        parts = tf.reshape(filled, tf.concat([[-1, size], tf.shape(images)[1:]], 0))
        parts = tf.ensure_shape(parts, [None, size, *images.shape[1:]])
        one = tf.TensorSpec([size, *images.shape[1:]], tf.float32)
        traced = tf.function(lambda part: call(part, training), autograph=False)
        spec = tf.TensorSpec(traced.get_concrete_function(one).output_shapes, tf.float32)
        answers = tf.map_fn(traced, parts, fn_output_signature=spec)
        width = spec.shape[-1] or tf.shape(answers)[-1]
        return tf.reshape(answers, [-1, width])[:count]

    return whole


def _variables(owner: Any) -> list[Any]:
    """Those that the model lists, else those that are found in it."""
    import tensorflow as tf

    listed = getattr(owner, "variables", None)
    if not listed:
        parts = tf.train.TrackableView(owner).descendants()
        listed = [part for part in parts if isinstance(part, tf.Variable)]
    return list({id(v): v for v in map(tensorflow_variable, listed)}.values())
