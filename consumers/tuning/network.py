"""An extractor and a head as one network of TensorFlow variables: its logits, losses and steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from consumers.head import Dense, Head
from consumers.tuning.augmentation import augmented
from consumers.tuning.options import TuningOptions
from transforms.models.trainable import TrainableModel


def untrained_head(features: int, classes: int) -> Head:
    """One dense layer of zeros, from vectors of `features` numbers to `classes` logits."""
    kernel, bias = np.zeros((features, classes), np.float32), np.zeros(classes, np.float32)
    return Head((Dense(kernel, bias),))


class Network:
    """A model and a head whose variables are trained together.

    Attributes:
      variables: all of both, in an order that is always the same.
      trainable_variables: those that training changes.
    """

    def __init__(self, model: TrainableModel, head: Head):
        import tensorflow as tf

        self._model = model
        self._head = head
        self._layers = [(tf.Variable(d.kernel), tf.Variable(d.bias)) for d in head.layers]
        own = tuple(variable for layer in self._layers for variable in layer)
        self.trainable_variables = (*model.trainable_variables, *own)
        known = {id(variable) for variable in model.variables}
        unlisted = (v for v in model.trainable_variables if id(v) not in known)
        self.variables = (*model.variables, *unlisted, *own)

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return len(self._head.layers[-1].bias)

    def logits(self, images: Any, training: bool, seed: Any = None) -> Any:
        """float32 [B, C] for images [B, H, W, 3] in [0, 1].

        Args:
          images: the batch.
          training: whether the model is told that this is training, and what goes into the last
            layer is dropped out.
          seed: int32 [2], of the dropout.
        """
        import tensorflow as tf

        hidden = self._model.call(images, training)
        *layers, (kernel, bias) = self._layers
        for inner_kernel, inner_bias in layers:
            hidden = tf.nn.relu(hidden @ inner_kernel + inner_bias)
        rate = self._head.dropout_rate
        if training and rate:
            hidden = tf.nn.experimental.stateless_dropout(hidden, rate, seed)
        return hidden @ kernel + bias

    def penalty(self) -> Any:
        """A scalar: the model's regularisation losses and those of the head's kernels."""
        import tensorflow as tf

        losses = [tf.reduce_sum(loss()) for loss in self._model.regularization_losses]
        for (kernel, _), layer in zip(self._layers, self._head.layers, strict=True):
            kernel = kernel * layer.unit
            losses.append(self._head.l1 * tf.reduce_sum(tf.abs(kernel)))
            losses.append(self._head.l2 * tf.reduce_sum(tf.square(kernel)))
        return tf.add_n([tf.cast(loss, tf.float32) for loss in losses])

    def head(self) -> Head:
        """The head as it is now, as plain arrays."""
        layers = tuple(
            Dense(kernel.numpy(), bias.numpy(), layer.unit)
            for (kernel, bias), layer in zip(self._layers, self._head.layers, strict=True)
        )
        return dataclasses.replace(self._head, layers=layers)


def cross_entropy(logits: Any, targets: Any, smoothing: float, is_multi_label: bool) -> Any:
    """The loss of each image, float32 [B], as Keras' CategoricalCrossentropy has it.

    Where an image may be of several classes: BinaryCrossentropy, the mean over the classes.

    Args:
      logits: float32 [B, C].
      targets: float32 [B, C], 0 or 1.
      smoothing: share of each target that is spread over all classes; there, over both answers.
      is_multi_label: whether an image may be of several classes.
    """
    import tensorflow as tf

    if is_multi_label:
        smooth = targets * (1 - smoothing) + smoothing / 2
        each = tf.nn.sigmoid_cross_entropy_with_logits(smooth, logits)
        return tf.reduce_mean(each, axis=1)
    smooth = targets * (1 - smoothing) + smoothing / tf.cast(tf.shape(targets)[1], tf.float32)
    return tf.nn.softmax_cross_entropy_with_logits(smooth, logits)


def training_step(
    network: Network,
    velocities: Sequence[Any],
    options: TuningOptions,
    is_multi_label: bool,
    size: tuple[int, int],
) -> Callable[..., Any]:
    """One step of gradient descent with momentum: `v ← m·v - rate·g; w ← w + v`, as Keras' SGD.

    The gradient is scaled down to a norm, that of all variables together, where it is longer.

    Args:
      network: what is trained.
      velocities: a variable for each of `network.trainable_variables`, zero at the start.
      options: momentum, smoothing and whether there is augmentation.
      is_multi_label: which loss it is.
      size: height and width of the images, in pixels.

    Returns:
      a function of images float32 [B, H, W, 3], affine maps float32 [B, 8], targets float32 [B, C],
      the learning rate and a seed int32 [2], to the loss before the step and the part of it that is
      regularisation.
    """
    import tensorflow as tf

    signature = [
        tf.TensorSpec([None, *size, 3], tf.float32),
        tf.TensorSpec([None, 8], tf.float32),
        tf.TensorSpec([None, network.classes], tf.float32),
        tf.TensorSpec([], tf.float32),
        tf.TensorSpec([2], tf.int32),
    ]

    @tf.function(input_signature=signature, autograph=False)
    def step(images: Any, maps: Any, targets: Any, rate: Any, seed: Any) -> Any:
        if options.augmentation:
            images = augmented(images, maps)
        with tf.GradientTape() as tape:
            logits = network.logits(images, True, seed)
            losses = cross_entropy(logits, targets, options.label_smoothing, is_multi_label)
            penalty = network.penalty()
            loss = tf.reduce_mean(losses) + penalty
        variables = network.trainable_variables
        gradients = tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        gradients, _ = tf.clip_by_global_norm(gradients, options.clip_norm)
        for variable, velocity, gradient in zip(variables, velocities, gradients, strict=True):
            down = tf.cast(rate, variable.dtype) * gradient
            velocity.assign(tf.cast(options.momentum, variable.dtype) * velocity - down)
            variable.assign_add(velocity)
        return loss, penalty

    return step


def evaluation(network: Network, size: tuple[int, int]) -> Callable[[Any], Any]:
    """A function of images float32 [B, H, W, 3] to logits float32 [B, C], as they are answered."""
    import tensorflow as tf

    signature = [tf.TensorSpec([None, *size, 3], tf.float32)]
    return tf.function(
        lambda images: network.logits(images, False), input_signature=signature, autograph=False
    )
