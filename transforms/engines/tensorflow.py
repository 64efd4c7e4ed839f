"""TensorFlow: the model's graph, frozen once, on batches as they come from decoding."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np

from transforms import loading, models
from transforms.engines.tensorflow_import import import_tensorflow

_LOGGER = logging.getLogger(__name__)
_lock = threading.Lock()
_engines: dict[tuple, TensorFlowEngine] = {}


class TensorFlowEngine:
    """From image batches to feature arrays, through a frozen graph.

    Freezing makes the variables constants, which lets TensorFlow fold and fuse: 1.1 to 1.4 times
    the speed of the loaded model with the same numbers.
    """

    def __init__(self, model: loading.LoadedModel):
        self._model = model
        self._functions: dict[tuple, Callable] = {}
        self._lock = threading.Lock()

    @property
    def model(self) -> loading.LoadedModel:
        """What the engine runs, and what is fixed about its input."""
        return self._model

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [B, N] for images [B, H, W, 3], float32 in [0, 1] or uint8, or bytes [B].

        A model with a fixed batch size gets full batches; what it says of the padding is cut off.

        Raises:
          Exception: whatever the model raises on these images.
          ValueError: the answer is not [B, N].
        """
        import tensorflow as tf

        function = self._function(images)
        size = self._model.batch_size or len(images)
        answers = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            missing = size - len(batch)
            if missing:
                batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            answer = function(tf.constant(batch)).numpy()
            if answer.ndim != 2 or len(answer) != size:
                raise ValueError(
                    f"the model answers {list(answer.shape)} to {list(batch.shape)}, not [B, N]"
                )
            answers.append(answer[: size - missing])
        return np.concatenate(answers) if len(answers) > 1 else answers[0]

    def _function(self, images: np.ndarray) -> Callable:
        key = (images.dtype, images.shape[1:])
        with self._lock:
            if key not in self._functions:
                shape = (self._model.batch_size, *images.shape[1:])
                self._functions[key] = _freeze(self._model.call, images.dtype, shape)
            return self._functions[key]


def load(source: models.ModelSource) -> TensorFlowEngine:
    """The engine for a model: loaded once a process, shared by its threads and by the launcher."""
    with _lock:
        import_tensorflow()
        key = source, models.files_state(source)
        if key not in _engines:
            _engines[key] = TensorFlowEngine(loading.load(source))
        return _engines[key]


def _freeze(call: Callable, dtype: np.dtype, shape: tuple[int | None, ...]) -> Callable:
    """Traces `call` on batches of images of one dtype and shape; makes its variables constants."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    spec = tf.TensorSpec(shape, tf.string if dtype.kind == "O" else dtype)
    function = tf.function(call, input_signature=[spec], autograph=False).get_concrete_function()
    try:
        frozen = convert_to_constants.convert_variables_to_constants_v2(function)
        if len(frozen.inputs) != 1:  # a resource other than a variable, such as a lookup table
            raise ValueError(f"it needs {len(frozen.inputs) - 1} resources besides its variables")
    except (ValueError, NotImplementedError, tf.errors.OpError) as error:
        _LOGGER.warning("The model's graph cannot be frozen, it runs as it is: %s", error)
        return function

    def first_output(images):
        outputs = frozen(images)
        return outputs[0] if isinstance(outputs, (list, tuple)) else outputs

    return first_output
