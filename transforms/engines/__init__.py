"""From a resolved model to a function on image batches; one module for each engine.

An engine is loaded once a process and shared by its threads. It cuts a batch into slices and runs
as many at once as there are cores, each on one thread: with small slices the activations stay in
the cores' caches, and nothing waits at the end of each operation.
"""

from __future__ import annotations

import importlib.util
import threading
from typing import Literal, Protocol

import numpy as np

from transforms import models
from transforms.errors import UserError
from transforms.loading import LoadedModel

EngineName = Literal["tensorflow", "openvino"]
Precision = Literal["float32", "bfloat16", "float16"]

_lock = threading.Lock()
_engines: dict[tuple, Engine] = {}


class Engine(Protocol):
    """A model made ready to run.

    Attributes:
      model: what it runs, and what is fixed about its input.
    """

    @property
    def model(self) -> LoadedModel:
        """What the engine runs."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [B, N] for images [B, H, W, 3], float32 in [0, 1] or uint8, or bytes [B]."""


def load(
    source: models.ModelSource, name: EngineName = "tensorflow", precision: Precision = "float32"
) -> Engine:
    """The engine for a model: loaded once a process, shared by its threads and by the launcher.

    Raises:
      UserError: the model cannot be loaded, or the engine or the precision cannot be had here.
    """
    with _lock:
        key = source, models.files_state(source), name, precision
        if key not in _engines:
            _engines[key] = _load(source, name, precision)
        return _engines[key]


def is_installed(name: EngineName) -> bool:
    """Whether the engine's package is here."""
    return importlib.util.find_spec(name) is not None


def _load(source: models.ModelSource, name: EngineName, precision: Precision) -> Engine:
    if name == "tensorflow":
        from transforms.engines import tensorflow

        return tensorflow.load(source, precision)
    if not is_installed("openvino"):
        raise UserError(
            "--engine openvino: OpenVINO is not installed here; "
            "pip install 'beam-image-features[openvino]'"
        )
    from transforms.engines import openvino

    return openvino.load(source, precision)
