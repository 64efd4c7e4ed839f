"""OpenVINO: the frozen graph of any SavedModel, in float32 or bfloat16, on the CPU.

What was converted lies in the cache, keyed by the model's bytes: the next process reads it there
and imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from transforms.engines.first_ops import InputScale, input_scale
from transforms.engines.slices import in_slices
from transforms.errors import Parameter, UserError, one_line
from transforms.images.resize import UINT8_SCALE
from transforms.machine import entries
from transforms.machine.cache import UnsafeCacheError, cache_path
from transforms.machine.cores import available_cores
from transforms.machine.openvino_import import import_openvino
from transforms.models import loading
from transforms.models.source import UNIT_RANGE, ModelSource, files_sha256

# Measured on two cores with EfficientNet-Lite0: 4 are best, 16 cost 8 %.
SLICE_IMAGES = 4

# Raise it whenever what is converted or described changes.
_CACHE_VERSION = 3

_FLOAT32 = np.dtype(np.float32)
_FIRST_OPS = "first_ops.json"
_DESCRIPTION = "model.json"

_CAPABILITIES = "OPTIMIZATION_CAPABILITIES"

_lock = threading.Lock()

_HINTS = {"float32": "f32", "bfloat16": "bf16"}

_THIS, _OTHER = Parameter("engine", "openvino"), Parameter("engine", "tensorflow")


class OpenVinoEngine:
    """From image batches to feature arrays.

    Args:
      source: the model.
      precision: "float32" or "bfloat16".
    """

    def __init__(self, source: ModelSource, precision: str):
        self._source = source
        self._precision = precision
        try:
            self._cache = cache_path("openvino", _key(source))
        except UnsafeCacheError as error:
            raise UserError(str(error), subject=source.subject) from error
        self._model = _described(self._cache) or self._load_and_describe()
        if self._model.kind != "pixels":
            raise UserError(
                f"{source.name} decodes the images itself; give ", _OTHER, subject=_THIS
            )
        self._functions: dict[tuple, Callable[[np.ndarray], np.ndarray]] = {}

    @property
    def model(self) -> loading.LoadedModel:
        """What the engine runs, and what is fixed about its input; not to be called."""
        return self._model

    @property
    def identity(self) -> str:
        """Decides its numbers: the converted model, the precision and the processor."""
        openvino = import_openvino()

        core = openvino.Core()
        processor = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", _CAPABILITIES)]
        return f"{_key(self._source)} {self._precision} {processor}"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [B, N] for images [B, H, W, 3], float32 in [0, 1] or uint8.

        Raises:
          UserError: the model cannot be converted.
          Exception: whatever the model raises on these images.
        """
        fixed = self._model.batch_size
        function = self._function(images.shape[1:], images.dtype)
        if not fixed:
            return in_slices(function, images, SLICE_IMAGES)
        missing = -len(images) % fixed
        padded = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        return in_slices(function, padded, fixed)[: len(images)]

    def first_ops(self, height: int, width: int) -> InputScale | None:
        """What the model's first operations make of float32 pixels, as seen when converted."""
        path = os.path.join(self._converted((height, width, 3)), _FIRST_OPS)
        with open(path, encoding="utf-8") as file:
            return InputScale(**json.load(file))

    def _function(
        self, shape: tuple[int, ...], dtype: np.dtype
    ) -> Callable[[np.ndarray], np.ndarray]:
        key = *shape, dtype.char
        with _lock:
            if key not in self._functions:
                function = self._compile(shape, dtype)
                # The first answer comes from one thread: OpenVINO's bindings set up static
                # variables then, and two threads that do so at once wait for each other for ever.
                function(np.zeros((self._model.batch_size or 1, *shape), dtype))
                self._functions[key] = function
            return self._functions[key]

    def _compile(self, shape: tuple[int, ...], dtype: np.dtype) -> Callable:
        openvino = import_openvino()

        # In [0, 255] a uint8 is a pixel as it is, which what was made for [0, 1] would round.
        takes_uint8 = dtype == np.uint8 and self._source.value_range != UNIT_RANGE
        converted = self._converted(shape, dtype if takes_uint8 else _FLOAT32)
        core = openvino.Core()
        if self._precision == "bfloat16" and "BF16" not in core.get_property("CPU", _CAPABILITIES):
            raise UserError(
                "this CPU has no bfloat16 instructions", subject=Parameter("precision", "bfloat16")
            )
        model = core.read_model(os.path.join(converted, "model.xml"))
        compiled = core.compile_model(
            _taking_uint8(model) if dtype == np.uint8 and not takes_uint8 else model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
                "NUM_STREAMS": str(available_cores()),
                "INFERENCE_NUM_THREADS": str(available_cores()),
            },
        )
        local = threading.local()

        def run(images: np.ndarray) -> np.ndarray:
            if not hasattr(local, "request"):
                local.request = compiled.create_infer_request()
            local.request.infer({0: np.ascontiguousarray(images)}, share_inputs=True)
            answer = local.request.get_output_tensor(0).data
            if answer.ndim != 2 or len(answer) != len(images):
                raise ValueError(
                    f"the model answers {list(answer.shape)} to {list(images.shape)}, not [B, N]"
                )
            return np.array(answer, np.float32)

        return run

    def _converted(self, shape: tuple[int, ...], dtype: np.dtype = _FLOAT32) -> str:
        """The directory of the model for images of one shape and dtype, converted if need be."""
        name = "x".join(map(str, shape)) + ("" if dtype == _FLOAT32 else f"-{dtype.name}")
        directory = os.path.join(self._cache, name)
        if not entries.is_whole(directory):
            self._convert(shape, dtype, directory)
        return directory

    def _convert(self, shape: tuple[int, ...], dtype: np.dtype, target: str) -> None:
        """Freezes the model for images of one shape and dtype and converts it into `target`."""
        openvino = import_openvino()

        from transforms.engines import tensorflow as tensorflow_engine

        loaded = self._load()
        batch = (loaded.batch_size, *shape)
        frozen = tensorflow_engine.freeze(loaded.call, dtype, batch)
        if frozen is None:
            raise UserError(f"{self._source.name} cannot be frozen; give ", _OTHER, subject=_THIS)
        try:
            converted = openvino.convert_model(frozen.graph.as_graph_def())
            outputs = converted.outputs
        except Exception as error:  # it has errors of its own for each operation
            raise UserError(
                f"{self._source.name} cannot be converted: {one_line(error)}; give ",
                _OTHER,
                subject=_THIS,
            ) from error
        if len(outputs) != 1:
            raise UserError(
                f"{self._source.name} has {len(outputs)} outputs when converted; give ",
                _OTHER,
                subject=_THIS,
            )
        first_ops = json.dumps(dataclasses.asdict(input_scale(frozen.inputs[0])))

        def write(made: str) -> None:
            openvino.save_model(converted, os.path.join(made, "model.xml"), compress_to_fp16=False)
            _write(os.path.join(made, _FIRST_OPS), first_ops)

        self._keep(write, target)

    def _keep(self, write: Callable[[str], None], target: str) -> None:
        """Makes an entry of what is written into a directory."""
        os.makedirs(self._cache, mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=self._cache) as work:
            made = os.path.join(work, "made")
            os.mkdir(made)
            write(made)
            entries.keep(made, target)

    def _load(self) -> loading.LoadedModel:
        from transforms.machine.tensorflow_import import import_tensorflow

        import_tensorflow()
        return loading.load_model(self._source)

    def _load_and_describe(self) -> loading.LoadedModel:
        loaded = self._load()
        fields = {f.name: getattr(loaded, f.name) for f in dataclasses.fields(loaded)}
        text = json.dumps({k: v for k, v in fields.items() if k not in ("call", "owner")})
        self._keep(
            lambda made: _write(os.path.join(made, _DESCRIPTION), text), _described_in(self._cache)
        )
        return loaded


def load(source: ModelSource, precision: str = "float32") -> OpenVinoEngine:
    """The engine for a model.

    Raises:
      UserError: the model cannot be loaded or is none that takes pixels, or OpenVINO does not know
        the precision.
    """
    if precision not in _HINTS:
        raise UserError(
            _THIS, " knows float32 and bfloat16", subject=Parameter("precision", precision)
        )
    return OpenVinoEngine(source, precision)


def _taking_uint8(model: Any) -> Any:
    """The model with uint8 input, converted as `tf.image.convert_image_dtype` does it."""
    openvino = import_openvino()
    from openvino import opset8, preprocess

    steps = preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8)
    steps.input().preprocess().convert_element_type(openvino.Type.f32).custom(
        lambda pixels: opset8.multiply(pixels, opset8.constant(UINT8_SCALE)).output(0)
    )
    return steps.build()


def _key(source: ModelSource) -> str:
    """What decides a converted model: the model's bytes, how it is called, and who converts."""
    openvino = import_openvino()

    what = dataclasses.replace(source, name="", path=None, sha256=None)
    text = f"{_CACHE_VERSION} {openvino.__version__} {files_sha256(source)} {what}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _described(cache: str) -> loading.LoadedModel | None:
    """What an earlier process wrote down of the model; None if there is nothing usable."""
    directory = _described_in(cache)
    if not entries.is_whole(directory):
        return None
    try:
        with open(os.path.join(directory, _DESCRIPTION), encoding="utf-8") as file:
            return loading.LoadedModel(call=_not_here, owner=None, **json.load(file))
    except (OSError, ValueError, TypeError):
        return None


def _not_here(images: Any) -> NoReturn:
    raise RuntimeError("this model was read from the cache of OpenVINO; TensorFlow is not loaded")


def _described_in(cache: str) -> str:
    return os.path.join(cache, "description")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
