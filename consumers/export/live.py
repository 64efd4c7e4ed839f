"""An extractor in this process, with its variables: what a head is put onto and saved with.

Fine-tuning ends with one; `open_extractor` makes one of a published model.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from transforms.errors import UserError
from transforms.models import pixels, vectors
from transforms.models.loading import LoadedModel, load_model
from transforms.models.source import ModelSource


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
    known: Any = None
    training: Callable[[Any, bool], Any] | None = None
    if source.is_keras_file:
        known, training = owner, _keras_training(owner, source, loaded)
    elif loaded.function == "__call__":
        known, training = owner, _training(owner, source, loaded)
    return OpenedExtractor(
        call=_in_batches(training or (lambda images, _: loaded.call(images)), loaded),
        variables=_variables(owner),
        trainable_variables=[_raw(v) for v in getattr(known, "trainable_variables", ())],
        regularization_losses=_losses(known),
        owner=owner,
        height=loaded.height,
        width=loaded.width,
    )


def is_keras_model(owner: Any) -> bool:
    """Whether an extractor is a model of Keras 2 or 3 and not what TensorFlow has loaded."""
    return hasattr(owner, "get_config")


def _training(
    owner: Any, source: ModelSource, loaded: LoadedModel
) -> Callable[[Any, bool], Any] | None:
    """The function of a callable SavedModel that takes `training`; None: it does not.

    Nor does one that was saved without a trace for training, or whose `training` is an argument.
    """
    import tensorflow as tf

    known = inspect.getfullargspec(owner.__call__)
    arguments = dict(source.arguments)
    if "training" not in (*known.args, *known.kwonlyargs) or "training" in arguments:
        return None
    dtype = tf.as_dtype(loaded.dtype)

    def call(images: Any, training: bool) -> Any:
        batch = pixels.model_input(images, dtype, source)
        return vectors.vector(owner(batch, **arguments, training=training), source)

    size = [loaded.batch_size, loaded.height, loaded.width, 3]
    try:
        traced = tf.function(lambda images: call(images, True), autograph=False)
        traced.get_concrete_function(tf.TensorSpec(size, tf.float32))
    except ValueError:
        return None
    return call


def _keras_training(
    model: Any, source: ModelSource, loaded: LoadedModel
) -> Callable[[Any, bool], Any]:
    import tensorflow as tf

    names = list(getattr(model, "output_names", ()))
    dtype = tf.as_dtype(loaded.dtype)

    def call(images: Any, training: bool) -> Any:
        answer = model(pixels.model_input(images, dtype, source), training=training)
        if isinstance(answer, list):
            answer = dict(zip(names, answer, strict=True))
        return vectors.vector(answer, source)

    return call


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
    return list({id(v): v for v in map(_raw, listed)}.values())


def _raw(variable: Any) -> Any:
    """TensorFlow's variable; Keras 3 wraps it, in an attribute that TensorFlow has as a method."""
    return variable if callable(variable.value) else variable.value


def _losses(known: Any) -> list[Callable[[], Any]]:
    """What gives the regularisation losses of a Reusable SavedModel or of a Keras model."""
    if known is None:
        return []
    if not is_keras_model(known):
        return list(getattr(known, "regularization_losses", ()))
    of_variables: list[Callable[[], Any]] = [  # Keras 3
        functools.partial(variable.regularizer, variable)
        for variable in known.trainable_variables
        if getattr(variable, "regularizer", None) is not None
    ]
    of_layers = [  # Keras 2, which has no public name for them
        loss
        for layer in getattr(known, "submodules", ())
        for loss in getattr(layer, "_callable_losses", ())
    ]
    return of_variables or of_layers
