"""TensorFlow: the model's graph, frozen once, on batches as they come from decoding."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from transforms.engines.first_ops import InputScale, input_scale
from transforms.engines.slices import in_slices
from transforms.errors import Parameter, UserError
from transforms.machine.tensorflow_import import import_tensorflow
from transforms.models import loading
from transforms.models.source import ModelSource

# Measured on two cores with EfficientNet-Lite0: 4 to 8 are best, 16 costs 3 %.
SLICE_IMAGES = 8

_LOGGER = logging.getLogger(__name__)


class TensorFlowEngine:
    """From image batches to feature arrays, through a frozen graph.

    Freezing makes the variables constants, which lets TensorFlow fold and fuse: 1.1 to 1.4 times
    the speed of the loaded model with the same numbers.

    A GPU gets whole batches. A CPU gets them in slices, where TensorFlow was told to run each
    operation on one thread (`import_tensorflow` does so if it is the first to import it).
    """

    def __init__(self, model: loading.LoadedModel):
        import tensorflow as tf

        self._model = model
        self._functions: dict[tuple, Callable] = {}
        self._lock = threading.Lock()
        one_thread = tf.config.threading.get_intra_op_parallelism_threads() == 1
        self._in_slices = one_thread and not has_gpu() and model.batch_size is None

    @property
    def model(self) -> loading.LoadedModel:
        """What the engine runs, and what is fixed about its input."""
        return self._model

    @property
    def identity(self) -> None:
        """Not known."""
        return None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [B, N] for images [B, H, W, 3], float32 in [0, 1] or uint8, or bytes [B].

        A model with a fixed batch size gets full batches; what it says of the padding is cut off.

        Raises:
          Exception: whatever the model raises on these images.
          ValueError: the answer is not [B, N].
        """
        function = self._function(images)
        if self._in_slices:
            return in_slices(lambda part: _answer(function, part), images, SLICE_IMAGES)
        size = self._model.batch_size or len(images)
        answers = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            missing = size - len(batch)
            if missing:
                batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            answers.append(_answer(function, batch)[: size - missing])
        return np.concatenate(answers) if len(answers) > 1 else answers[0]

    def first_ops(self, height: int, width: int) -> InputScale | None:
        """What the model's first operations make of float32 pixels; None: it cannot be frozen."""
        function: Any = self._function(np.empty((0, height, width, 3), np.float32))
        return input_scale(function.inputs[0]) if len(function.inputs) == 1 else None

    def _function(self, images: np.ndarray) -> Callable:
        key = (images.dtype, images.shape[1:])
        with self._lock:
            if key not in self._functions:
                shape = (self._model.batch_size, *images.shape[1:])
                frozen = freeze(self._model.call, images.dtype, shape)
                self._functions[key] = frozen or as_it_is(self._model.call, images.dtype, shape)
            return self._functions[key]


def load(source: ModelSource, precision: str = "float32") -> TensorFlowEngine:
    """The engine for a model.

    Raises:
      UserError: the model cannot be loaded, or the precision cannot be had here.
    """
    import_tensorflow()
    if precision != "float32":
        if not has_gpu():
            raise UserError(
                "TensorFlow computes in float32 on a CPU; ",
                Parameter("engine", "openvino"),
                " knows bfloat16",
                subject=Parameter("precision", precision),
            )
        import tensorflow as tf

        if precision == "bfloat16":
            raise UserError(
                "on a GPU TensorFlow is given float16", subject=Parameter("precision", precision)
            )
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision": True})
    return TensorFlowEngine(loading.load_model(source))


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    import_tensorflow()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _answer(function: Callable, images: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    outputs = function(tf.constant(images))
    answer = (outputs[0] if isinstance(outputs, (list, tuple)) else outputs).numpy()
    if answer.ndim != 2 or len(answer) != len(images):
        raise ValueError(
            f"the model answers {list(answer.shape)} to {list(images.shape)}, not [B, N]"
        )
    return answer


def as_it_is(call: Callable, dtype: np.dtype, shape: tuple[int | None, ...]) -> Callable:
    """Traces `call` on batches of images of one dtype and shape."""
    import tensorflow as tf

    spec = tf.TensorSpec(shape, tf.string if dtype.kind == "O" else dtype)
    return tf.function(call, input_signature=[spec], autograph=False).get_concrete_function()


def freeze(call: Callable, dtype: np.dtype, shape: tuple[int | None, ...]) -> Any:
    """`as_it_is` with its variables made constants; None where that cannot be done."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    try:
        frozen = convert_to_constants.convert_variables_to_constants_v2(
            as_it_is(call, dtype, shape)
        )
        if len(frozen.inputs) != 1:  # a resource other than a variable, such as a lookup table
            raise ValueError(f"it needs {len(frozen.inputs) - 1} resources besides its variables")
    except (ValueError, NotImplementedError, tf.errors.OpError) as error:
        _LOGGER.warning("The model's graph cannot be frozen, it runs as it is: %s", error)
        return None
    return frozen
