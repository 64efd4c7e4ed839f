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
    if source.is_keras_file:
        return _keras_file(source, model)
    if model.function != "__call__":
        _refuse(source, f"it is called by its signature {model.function}, which has no gradient")
    return _reusable(source, model)


def _refuse(source: ModelSource, why: str) -> NoReturn:
    raise UserError(
        f"is not fine-tunable: {why}; train a head on its vectors instead", subject=source.subject
    )


def _reusable(source: ModelSource, model: LoadedModel) -> TrainableModel:
    owner = model.owner
    trainable = tuple(getattr(owner, "trainable_variables", None) or ())
    if not trainable:
        _refuse(source, "it has no trainable_variables")
    known = inspect.getfullargspec(owner.__call__)
    given = dict(source.arguments)
    plain = functools.partial(_answer, owner, given)
    call, knows_training = plain, False
    if "training" in [*known.args, *known.kwonlyargs] and "training" not in given:
        told = functools.partial(_answer_told, owner, given)
        knows_training = _is_traced(source, model, told)
        call = told if knows_training else functools.partial(_answer_untold, owner, given)
    return _trainable(
        source,
        model,
        call,
        knows_training,
        tuple(getattr(owner, "variables", None) or trainable),
        trainable,
        tuple(getattr(owner, "regularization_losses", None) or ()),
    )


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
    shape = [None, *(sizes or [model.height, model.width, 3])]
    spec = tf.TensorSpec(shape, tf.dtypes.as_dtype(model.dtype))
    try:
        traced = tf.function(lambda images: call(images, True), autograph=False)
        traced.get_concrete_function(spec)
    except (TypeError, ValueError):  # "Could not find matching concrete function"
        return False
    return True


def _keras_file(source: ModelSource, model: LoadedModel) -> TrainableModel:
    owner = model.owner
    trainable = tuple(map(_tensorflow_variable, owner.trainable_variables))
    if not trainable:
        _refuse(source, "it has no trainable variables")
    names = list(getattr(owner, "output_names", ()))

    def call(images: Any, training: bool) -> Any:
        answer = owner(images, training=training)
        return dict(zip(names, answer, strict=True)) if isinstance(answer, list) else answer

    variables = tuple(map(_tensorflow_variable, owner.variables))
    losses = tuple(_weight_losses(owner))
    return _trainable(source, model, call, True, variables, trainable, losses)


def _tensorflow_variable(variable: Any) -> Any:
    """Keras 3 wraps TensorFlow's variables, in an attribute that Keras 2 has as a method."""
    return variable if callable(variable.value) else variable.value


def _weight_losses(owner: Any) -> Sequence[Callable[[], Any]]:
    """The regularisation losses of weights; what activities cost is no function of none."""
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


def _trainable(
    source: ModelSource,
    model: LoadedModel,
    function: Callable[[Any, bool], Any],
    knows_training: bool,
    variables: tuple[Any, ...],
    trainable: tuple[Any, ...],
    losses: tuple[Callable[[], Any], ...],
) -> TrainableModel:
    import tensorflow as tf

    dtype = tf.dtypes.as_dtype(model.dtype)

    def call(images: Any, training: bool) -> Any:
        given = pixels.model_input(images, dtype, source)
        return vectors.vector(function(given, training), source)

    frozen_in = _without_gradient(source, model, call, trainable)
    if frozen_in:
        _refuse(source, frozen_in)
    return TrainableModel(
        call, variables, trainable, losses, model.owner, source, knows_training,
        model.height, model.width,
    )  # fmt: skip


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
