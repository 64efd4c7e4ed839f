"""From a resolved model to a function on image batches; one module for each engine.

An engine is loaded once a process and shared by its threads. It cuts a batch into slices and runs
as many at once as there are cores, each on one thread: with small slices the activations stay in
the cores' caches, and nothing waits at the end of each operation.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from typing import Literal, Protocol

import numpy as np

from transforms.engines.first_ops import InputScale
from transforms.errors import Parameter, UserError
from transforms.models.loading import LoadedModel
from transforms.models.source import ModelSource, files_state

EngineName = Literal["tensorflow", "openvino"]
EngineChoice = Literal["tensorflow", "openvino", "auto"]
Precision = Literal["float32", "bfloat16", "float16"]

# Of NVIDIA's driver, on Linux and in WSL, and of AMD's.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")

# A model, and the one that takes its place while batches still run through it.
MAX_MODELS = 2

_lock = threading.Lock()
_engines: dict[tuple, Engine] = {}


class Engine(Protocol):
    """A model made ready to run.

    Attributes:
      model: what it runs, and what is fixed about its input.
      identity: what decides its numbers; None where that is not known.
    """

    @property
    def model(self) -> LoadedModel:
        """What the engine runs."""

    @property
    def identity(self) -> str | None:
        """What decides its numbers: model, libraries, precision and processor."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [B, N] for images [B, H, W, 3], float32 in [0, 1] or uint8, or bytes [B]."""

    def first_ops(self, height: int, width: int) -> InputScale | None:
        """What the model's first operations make of float32 pixels in [0, 1]; None: not known."""


def load(
    source: ModelSource, name: EngineName = "tensorflow", precision: Precision = "float32"
) -> Engine:
    """The engine for a model: loaded once a process, shared by its threads and by the launcher.

    The engines of the last `MAX_MODELS` models stay; who uses another one keeps it alive.

    Raises:
      UserError: the model cannot be loaded, or the engine or the precision cannot be had here.
    """
    with _lock:
        model = source, files_state(source)
        key = model, name, precision
        engine = _engines.pop(key, None) or _load(source, name, precision)
        _engines[key] = engine  # the last one is the one that was used last
        others = dict.fromkeys(other for other, *_ in reversed(_engines) if other != model)
        gone = list(others)[MAX_MODELS - 1 :]
        for other in [other for other in _engines if other[0] in gone]:
            del _engines[other]
        return engine


def candidates(choice: EngineChoice) -> list[EngineName]:
    """The engines that a choice stands for, in the order in which they are tried.

    `auto`: TensorFlow if it sees a GPU; else OpenVINO where it is installed, then TensorFlow.
    """
    if choice != "auto":
        return [choice]
    return (
        ["openvino", "tensorflow"]
        if is_installed("openvino") and not _has_gpu()
        else ["tensorflow"]
    )


def is_installed(name: EngineName) -> bool:
    """Whether the engine's package is here."""
    return importlib.util.find_spec(name) is not None


def _has_gpu() -> bool:
    """Asks TensorFlow, whose import takes seconds, only where a driver is loaded."""
    if not any(map(os.path.exists, _GPU_DEVICES)):
        return False
    from transforms.engines import tensorflow

    return tensorflow.has_gpu()


def _load(source: ModelSource, name: EngineName, precision: Precision) -> Engine:
    if name == "tensorflow":
        from transforms.engines import tensorflow

        return tensorflow.load(source, precision)
    if not is_installed("openvino"):
        raise UserError(
            "OpenVINO is not installed here; pip install 'beam-image-features[openvino]'",
            subject=Parameter("engine", name),
        )
    from transforms.engines import openvino

    return openvino.load(source, precision)
