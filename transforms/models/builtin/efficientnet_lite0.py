"""EfficientNet-Lite0 as a TensorFlow function, and its export as a Reusable SavedModel.

The network is Google's (https://github.com/tensorflow/tpu, `models/official/efficientnet/lite`):
EfficientNet-B0 without squeeze-excite, with ReLU6 for swish, and with a stem and a head of fixed
width. Each batch norm is folded into the convolution before it at export, in float64: the same
function in fewer operations, and nothing left that a `training` argument could change.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

_EPSILON = 1e-3


@dataclass(frozen=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int


_STAGES = (
    _Stage(1, 3, 1, 1, 32, 16),
    _Stage(2, 3, 2, 6, 16, 24),
    _Stage(2, 5, 2, 6, 24, 40),
    _Stage(3, 3, 2, 6, 40, 80),
    _Stage(3, 5, 1, 6, 80, 112),
    _Stage(4, 5, 2, 6, 112, 192),
    _Stage(1, 3, 1, 6, 192, 320),
)


@dataclass(frozen=True)
class _Block:
    """One MBConv block: expand, filter each channel, project; added to its input where it fits."""

    name: str
    prefix: str
    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int

    @property
    def residual(self) -> bool:
        return self.stride == 1 and self.inputs == self.outputs


def _blocks() -> list[_Block]:
    blocks: list[_Block] = []
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            index = len(blocks)
            stride, inputs = (stage.stride, stage.inputs) if repeat == 0 else (1, stage.outputs)
            blocks.append(
                _Block(
                    name=f"block_{index:02d}",
                    prefix=f"_blocks.{index}.",
                    kernel=stage.kernel,
                    stride=stride,
                    expand=stage.expand,
                    inputs=inputs,
                    outputs=stage.outputs,
                )
            )
    return blocks


class _Layers:
    """The variables of the network by layer name, made from a PyTorch state dict.

    Layer names are our own: a `tf.Variable`'s name may not begin with an underscore.
    """

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self._state = state
        self._layers: dict[str, tuple[Any, Any]] = {}

    def __getitem__(self, name: str) -> tuple[Any, Any]:
        """The layer's `(kernel, bias)`."""
        return self._layers[name]

    def variables(self) -> list[Any]:
        return [variable for layer in self._layers.values() for variable in layer]

    def convolution(
        self,
        name: str,
        conv: str,
        norm: str,
        axes: tuple[int, int, int, int],
        shape: tuple[int, ...],
    ) -> None:
        """Adds a convolution with its batch norm folded in; `axes` reorders PyTorch's kernel."""
        gamma, beta, mean, variance = (
            self._state[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + _EPSILON)
        kernel = self._state[f"{conv}.weight"] * scale[:, None, None, None]
        self._add(name, kernel.transpose(axes), beta - mean * scale, shape)

    def dense(self, name: str, prefix: str, shape: tuple[int, int]) -> None:
        """Adds a dense layer; PyTorch keeps its kernel as `[out, in]`."""
        self._add(name, self._state[f"{prefix}.weight"].T, self._state[f"{prefix}.bias"], shape)

    def _add(self, name: str, kernel: np.ndarray, bias: np.ndarray, shape: tuple[int, ...]) -> None:
        import tensorflow as tf

        if kernel.shape != shape:
            raise ValueError(f"layer {name}: the kernel is {kernel.shape}, not {shape}")
        self._layers[name] = (
            tf.Variable(kernel.astype(np.float32), name=f"{name}/kernel"),
            tf.Variable(bias.astype(np.float32), name=f"{name}/bias"),
        )


_FULL = (2, 3, 1, 0)  # [out, in, h, w] -> [h, w, in, out]
_DEPTHWISE = (2, 3, 0, 1)  # [channel, 1, h, w] -> [h, w, channel, 1]


def _add_trunk(layers: _Layers) -> None:
    layers.convolution("stem", "_conv_stem", "_bn0", _FULL, (3, 3, 3, 32))
    for block in _blocks():
        at, of = block.name, block.prefix
        width = block.inputs * block.expand
        if block.expand > 1:
            shape: tuple[int, ...] = (1, 1, block.inputs, width)
            layers.convolution(f"{at}/expand", f"{of}_expand_conv", f"{of}_bn0", _FULL, shape)
        shape = (block.kernel, block.kernel, width, 1)
        layers.convolution(
            f"{at}/depthwise", f"{of}_depthwise_conv", f"{of}_bn1", _DEPTHWISE, shape
        )
        shape = (1, 1, width, block.outputs)
        layers.convolution(f"{at}/project", f"{of}_project_conv", f"{of}_bn2", _FULL, shape)
    layers.convolution("head", "_conv_head", "_bn1", _FULL, (1, 1, 320, 1280))


def _feature_vector(images: Any, layers: _Layers) -> Any:
    """`float32 [B, H, W, 3]` in `[0, 1]` to `float32 [B, 1280]`."""
    import tensorflow as tf

    def convolve(x: Any, name: str, stride: int = 1) -> Any:
        kernel, bias = layers[name]
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, "SAME"), bias)

    def filter_channels(x: Any, name: str, stride: int) -> Any:
        kernel, bias = layers[name]
        strides = [1, stride, stride, 1]
        return tf.nn.bias_add(tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), bias)

    x = (images * 255.0 - 127.0) / 128.0
    x = tf.nn.relu6(convolve(x, "stem", 2))
    for block in _blocks():
        before = x
        if block.expand > 1:
            x = tf.nn.relu6(convolve(x, f"{block.name}/expand"))
        x = tf.nn.relu6(filter_channels(x, f"{block.name}/depthwise", block.stride))
        x = convolve(x, f"{block.name}/project")
        if block.residual:
            x = x + before
    x = tf.nn.relu6(convolve(x, "head"))
    return tf.reduce_mean(x, axis=[1, 2])


def _logits(images: Any, layers: _Layers) -> Any:
    """`float32 [B, H, W, 3]` in `[0, 1]` to `float32 [B, 1000]`."""
    import tensorflow as tf

    kernel, bias = layers["classifier"]
    return tf.linalg.matmul(_feature_vector(images, layers), kernel) + bias


def save(task: str, state: dict[str, np.ndarray], directory: str) -> None:
    """Writes one head of EfficientNet-Lite0 as a Reusable SavedModel.

    The saved object is callable with `images`, `float32 [B, H, W, 3]` RGB in `[0, 1]` with any H
    and W (the weights were trained at 224×224) and any B but 0, at which TensorFlow's oneDNN
    convolutions fail. It has `variables`, `trainable_variables` and an empty
    `regularization_losses` (https://www.tensorflow.org/hub/reusable_saved_models), and offers the
    same function as the signature `serving_default`, whose one output bears the task's name.

    Args:
      task: `feature_vector` (answers `float32 [B, 1280]`) or `classification` (answers logits,
        `float32 [B, 1000]`).
      state: the PyTorch state dict, as `weights.read_state_dict` reads it.
      directory: where to write; made if absent.

    Raises:
      KeyError: a tensor that the network needs is not in `state`.
      ValueError: a tensor does not have the shape that the network needs.
    """
    import tensorflow as tf

    layers = _Layers(state)
    _add_trunk(layers)
    answer = _feature_vector
    if task == "classification":
        layers.dense("classifier", "_fc", (1280, 1000))
        answer = _logits

    traced = functools.partial(
        tf.function,
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="images")],
        autograph=False,
    )
    # A tf.Module's own `variables` is a property, which a SavedModel does not keep; the attributes
    # of a Checkpoint object are kept, and hub.load finds them again.
    model = tf.train.Checkpoint()
    model.__call__ = traced(lambda images: answer(images, layers))
    model.variables = layers.variables()
    model.trainable_variables = layers.variables()
    model.regularization_losses = []
    serve = traced(lambda images: {task: answer(images, layers)})
    tf.saved_model.save(model, directory, signatures={"serving_default": serve})
