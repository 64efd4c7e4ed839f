"""An extractor and a head as one Reusable SavedModel; or the extractor alone, as it is now.

The interface is https://www.tensorflow.org/hub/reusable_saved_models: what `hub.load` and
`hub.KerasLayer(trainable=True, arguments=…)` take, and this program itself.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from consumers.export.live import LiveExtractor, open_extractor
from consumers.head import Head
from transforms.errors import UserError, one_line
from transforms.models.described import ModelDescription, refuse_labels, write_description
from transforms.models.source import ModelSource
from transforms.models.trainable import is_keras_model

LABELS_NAME = "labels.txt"

_ANSWER, _VECTOR = "logits", "feature_vector"


def save_classifier(
    directory: str,
    extractor: ModelSource | LiveExtractor,
    head: Head,
    description: ModelDescription,
) -> None:
    """Writes a Reusable SavedModel from images to logits.

    The saved object is called with `images`, float32 [B, H, W, 3] RGB in [0, 1] with any B but 0,
    and with any H and W where the extractor leaves them free; and, if wanted, with `training`, a
    Python bool, False by default, and, where the head has dropout, `dropout_rate`, a scalar of
    which the head's is the default. It answers float32 [B, C]. It has `variables`,
    `trainable_variables` (the head's, and those that the extractor calls so) and
    `regularization_losses` (the extractor's own, and those of the head's kernels), and the
    signature `serving_default` with one output, `logits`. The names of the classes lie for people
    in `labels.txt` beside `saved_model.pb`, and among the assets, as `labels_file` of the object;
    for this program with all else in `assets/image_classifier.json`.

    Args:
      directory: where to write; made if absent.
      extractor: a published model, or one that is loaded and may have been trained.
      head: from the extractor's vectors to logits.
      description: what the model says of itself; with as many labels as there are logits.

    Raises:
      OSError: there is no space for it.
      UserError: the extractor cannot be used, as in `open_extractor`, or does not fit the head.
      ValueError: `description` does not fit the head, or a class's name is none.
    """
    refuse_labels(description.labels)
    classes = len(head.layers[-1].bias)
    if (description.task, len(description.labels)) != ("classification", classes):
        raise ValueError(f"{len(description.labels)} labels for {classes} logits")
    import tensorflow as tf

    live = open_extractor(extractor) if isinstance(extractor, ModelSource) else extractor
    layers = [
        (
            tf.Variable(layer.kernel, dtype=tf.float32, name=f"head_{at}/kernel"),
            tf.Variable(layer.bias, dtype=tf.float32, name=f"head_{at}/bias"),
        )
        for at, layer in enumerate(head.layers)
    ]
    own = [variable for layer in layers for variable in layer]

    def answer(images: Any, training: bool, dropout_rate: Any) -> Any:
        x = live.call(images, training)
        _check_width(x, head, extractor)
        for at, (kernel, bias) in enumerate(layers):
            is_last = at == len(layers) - 1
            if is_last and training and head.dropout_rate:
                x = tf.nn.dropout(x, dropout_rate)
            x = tf.linalg.matmul(x, kernel) + bias
            x = x if is_last else tf.nn.relu(x)
        return x

    losses = [*live.regularization_losses, *_head_losses(head, [kernel for kernel, _ in layers])]
    _save(
        directory,
        live,
        answer,
        output=_ANSWER,
        dropout_rate=head.dropout_rate,
        variables=[*live.variables, *own],
        trainable=[*live.trainable_variables, *own],
        losses=losses,
        description=description,
    )


def save_extractor(directory: str, extractor: LiveExtractor, description: ModelDescription) -> None:
    """Writes an extractor, with the values that its variables have now, as a Reusable SavedModel.

    As `save_classifier` has it, but for the head: it answers with feature vectors, float32 [B, N],
    and its signature's output is `feature_vector`.

    Raises:
      UserError: it cannot be saved.
    """
    _save(
        directory,
        extractor,
        lambda images, training, dropout_rate: extractor.call(images, training),
        output=_VECTOR,
        dropout_rate=0.0,
        variables=extractor.variables,
        trainable=extractor.trainable_variables,
        losses=extractor.regularization_losses,
        description=description,
    )


def _check_width(vectors: Any, head: Head, extractor: Any) -> None:
    width, wanted = vectors.shape[-1], len(head.layers[0].kernel)
    if width not in (wanted, None):
        raise UserError(
            f"gives vectors of {width} values, but the head is made for {wanted}",
            subject=extractor.subject if isinstance(extractor, ModelSource) else "the extractor",
        )


def _head_losses(head: Head, kernels: Sequence[Any]) -> list[Callable[[], Any]]:
    """For each kernel, `l1 * sum(|w|) + l2 * sum(w²)`, as `tf.keras.regularizers.L1L2` has it."""
    import tensorflow as tf

    def loss(kernel: Any, unit: Any) -> Any:
        kernel = kernel * unit
        return head.l1 * tf.reduce_sum(tf.abs(kernel)) + head.l2 * tf.reduce_sum(kernel**2)

    if not (head.l1 or head.l2):
        return []
    units = [layer.unit for layer in head.layers]
    return [functools.partial(loss, *both) for both in zip(kernels, units, strict=True)]


def _save(
    directory: str,
    live: LiveExtractor,
    answer: Callable[[Any, bool, Any], Any],
    *,
    output: str,
    dropout_rate: float,
    variables: Sequence[Any],
    trainable: Sequence[Any],
    losses: Sequence[Callable[[], Any]],
    description: ModelDescription,
) -> None:
    import tensorflow as tf

    spec = tf.TensorSpec([None, live.height, live.width, 3], tf.float32, name="images")
    # A tf.Module's own `variables` is a property, which a SavedModel does not keep; the attributes
    # of a Checkpoint object are kept, and hub.load finds them again.
    model = tf.train.Checkpoint()
    model.__call__ = _traced(answer, spec, dropout_rate)
    model.variables = list(variables)
    model.trainable_variables = list(trainable)
    model.regularization_losses = [
        tf.function(loss, input_signature=[], autograph=False) for loss in losses
    ]
    serve = tf.function(
        lambda images: {output: answer(images, False, 0.0)},
        input_signature=[spec],
        autograph=False,
    )
    if not is_keras_model(live.owner):  # whose variables are all that it has
        model.extractor = live.owner
    with tempfile.TemporaryDirectory() as made:
        labels = os.path.join(made, LABELS_NAME)
        if description.labels:
            with open(labels, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{label}\n" for label in description.labels)
            model.labels_file = tf.saved_model.Asset(labels)
        try:
            tf.saved_model.save(model, directory, signatures={"serving_default": serve})
        except (AssertionError, ValueError, TypeError, tf.errors.OpError) as error:
            if os.strerror(errno.ENOSPC) in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), directory) from error
            raise UserError(
                f"cannot be saved again with what it computes: {one_line(error)}",
                subject="the extractor",
            ) from error
        if description.labels:
            shutil.copy(labels, directory)
    write_description(description, directory)


def _traced(answer: Callable[[Any, bool, Any], Any], spec: Any, dropout_rate: float) -> Any:
    """The function that is saved as `__call__`, with all its traces."""
    import tensorflow as tf

    if dropout_rate:

        @functools.partial(tf.function, autograph=False)
        def call(images: Any, training: bool = False, dropout_rate: Any = dropout_rate) -> Any:
            return answer(images, training, dropout_rate)

        # Left out, or given as a number or a tensor.
        for rate in ({}, {"dropout_rate": tf.TensorSpec([], tf.float32, name="dropout_rate")}):
            for training in (True, False):
                call.get_concrete_function(spec, training=training, **rate)
    else:

        @functools.partial(tf.function, autograph=False)
        def call(images: Any, training: bool = False) -> Any:
            return answer(images, training, 0.0)

        for training in (True, False):
            call.get_concrete_function(spec, training=training)
    return call
