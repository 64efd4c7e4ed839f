"""A published model as something that can be trained: its call, its variables and its losses.

Two forms can be: Reusable SavedModels (https://www.tensorflow.org/hub/reusable_saved_models), those
of Keras 2 among them, and `.keras` files. What has signatures alone has no variables to train.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from transforms.errors import UserError, one_line
from transforms.models import pixels, vectors
from transforms.models.loading import LoadedModel, load_model
from transforms.models.source import ModelSource


@dataclasses.dataclass(frozen=True, eq=False)
class TrainableModel:
    """A model whose variables can be changed.

    Attributes:
      call: from images, float32 [B, H, W, 3] in [0, 1], and whether this is training, to float32
        [B, N]; differentiable. Where the model knows no `training` it is left out.
      variables: all `tf.Variable`s, those of moving averages among them.
      trainable_variables: those that training changes; at least one.
      regularization_losses: functions of no argument to a float32 scalar each, to be added to the
        loss.
      owner: the loaded object; keeps the variables alive.
      source: which model it is, and how it is called.
      knows_training: whether `training` is handed on.
      height, width: of the images, in pixels, where the model fixes them; else None.
    """

    call: Callable[[Any, bool], Any]
    variables: tuple[Any, ...]
    trainable_variables: tuple[Any, ...]
    regularization_losses: tuple[Callable[[], Any], ...]
    owner: Any
    source: ModelSource
    knows_training: bool
    height: int | None
    width: int | None


def load_trainable(source: ModelSource) -> TrainableModel:
    """Loads a model so that it can be fine-tuned.

    Hyper-parameters, range, layout, pooling and the chosen output are those of `source`.

    Raises:
      UserError: it cannot be loaded or is not trusted, as of `loading.load_model`; or it is of a
        form that has nothing to train, or takes no pixels, or batches of one size alone.
    """
    model = load_model(source)
    if model.kind != "pixels":
        _refuse(source, "it decodes the images itself")
    if model.batch_size is not None:
        _refuse(source, f"it takes batches of {model.batch_size} images alone")
    if not source.is_keras_file and model.function != "__call__":
        _refuse(source, f"it is called by its signature {model.function}, which has no gradient")
    owner = model.owner
    listed = getattr(owner, "trainable_variables", None) or ()
    trainable = tuple(map(tensorflow_variable, listed))
    if not trainable:
        _refuse(source, "it has no trainable_variables")
    call, knows_training = call_in_training(source, model)
    frozen_in = _without_gradient(source, model, call, trainable)
    if frozen_in:
        _refuse(source, frozen_in)
    variables = map(tensorflow_variable, getattr(owner, "variables", None) or trainable)
    return TrainableModel(
        call=call,
        variables=tuple(variables),
        trainable_variables=trainable,
        regularization_losses=tuple(regularization_losses(owner)),
        owner=owner,
        source=source,
        knows_training=knows_training,
        height=model.height,
        width=model.width,
    )


def call_in_training(
    source: ModelSource, model: LoadedModel
) -> tuple[Callable[[Any, bool], Any], bool]:
    """A model's function that is told whether this is training.

    Args:
      source: how it is called.
      model: as `loading.load_model` has loaded it; it takes pixels.

    Returns:
      from images, float32 [B, H, W, 3] in [0, 1], and `training`, a Python bool, to float32 [B, N];
      and whether the model knows `training`.
    """
    import tensorflow as tf

    if source.is_keras_file:
        function, knows_training = _keras_function(model.owner), True
    elif model.function == "__call__":
        function, knows_training = _reusable_function(source, model)
    else:
        return (lambda images, training: model.call(images)), False
    dtype = tf.dtypes.as_dtype(model.dtype)

    def call(images: Any, training: bool) -> Any:
        given = pixels.model_input(images, dtype, source)
        return vectors.vector(function(given, training), source)

    return call, knows_training


def _refuse(source: ModelSource, why: str) -> NoReturn:
    raise UserError(
        f"is not fine-tunable: {why}; train a head on its vectors instead", subject=source.subject
    )


def _reusable_function(
    source: ModelSource, model: LoadedModel
) -> tuple[Callable[[Any, bool], Any], bool]:
    known = inspect.getfullargspec(model.owner.__call__)
    given = dict(source.arguments)
    if "training" not in [*known.args, *known.kwonlyargs] or "training" in given:
        return functools.partial(_answer, model.owner, given), False
    told = functools.partial(_answer_told, model.owner, given)
    if _is_traced(source, model, told):
        return told, True
    return functools.partial(_answer_untold, model.owner, given), False


def _answer(owner: Any, given: dict[str, Any], images: Any, training: bool) -> Any:
    return owner(images, **given)


def _answer_told(owner: Any, given: dict[str, Any], images: Any, training: bool) -> Any:
    return owner(images, training=training, **given)


def _answer_untold(owner: Any, given: dict[str, Any], images: Any, training: bool) -> Any:
    return owner(images, training=False, **given)


def _is_traced(source: ModelSource, model: LoadedModel, call: Any) -> bool:
    """Whether the model was saved with a trace for `training=True`: it may know the name alone."""
    import tensorflow as tf

    sizes = [3, model.height, model.width] if source.layout == "NCHW" else None
    shape = [model.batch_size, *(sizes or [model.height, model.width, 3])]
    spec = tf.TensorSpec(shape, tf.dtypes.as_dtype(model.dtype))
    try:
        traced = tf.function(lambda images: call(images, True), autograph=False)
        traced.get_concrete_function(spec)
    except (TypeError, ValueError):  # "Could not find matching concrete function"
        return False
    return True


def _keras_function(owner: Any) -> Callable[[Any, bool], Any]:
    names = list(getattr(owner, "output_names", ()))

    def call(images: Any, training: bool) -> Any:
        answer = owner(images, training=training)
        return dict(zip(names, answer, strict=True)) if isinstance(answer, list) else answer

    return call


def tensorflow_variable(variable: Any) -> Any:
    """TensorFlow's own: Keras 3 wraps it, in an attribute that Keras 2 has as a method."""
    return variable if callable(variable.value) else variable.value


def is_keras_model(owner: Any) -> bool:
    """Whether it is a model of Keras 2 or 3 and not what TensorFlow has loaded."""
    return hasattr(owner, "get_config")


def regularization_losses(owner: Any) -> Sequence[Callable[[], Any]]:
    """What a Reusable SavedModel says they are; of a Keras model those of its weights.

    What activities cost is no function of no argument.
    """
    if not is_keras_model(owner):
        return list(getattr(owner, "regularization_losses", None) or ())
    of_variables = [  # Keras 3
        functools.partial(variable.regularizer, variable)
        for variable in owner.trainable_variables
        if getattr(variable, "regularizer", None) is not None
    ]
    of_layers = [  # Keras 2, which has no public name for them
        loss
        for layer in getattr(owner, "submodules", ())
        if getattr(layer, "trainable", False)
        for loss in getattr(layer, "_callable_losses", ())
    ]
    return of_variables or of_layers


def _without_gradient(
    source: ModelSource, model: LoadedModel, call: Callable[[Any, bool], Any], trainable: Any
) -> str:
    """Why no gradient comes to the variables; empty where one does."""
    import tensorflow as tf

    def gradients(images: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(call(images, True))
        found.extend(tape.gradient(total, trainable))
        return [gradient for gradient in found if gradient is not None]

    found: list[Any] = []
    spec = tf.TensorSpec([None, model.height, model.width, 3], tf.float32)
    try:
        tf.function(gradients, autograph=False).get_concrete_function(spec)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - a model that was saved without may raise anything
        return f"it has no gradient: {one_line(error)}"
    return "" if any(g is not None for g in found) else "its variables do not reach its vectors"
