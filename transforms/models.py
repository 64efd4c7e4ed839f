"""Published models to one callable. Nothing here knows Beam.

A model follows TensorFlow Hub's Common SavedModel APIs for image tasks: float32 [B, H, W, 3] in
[0, 1] in, float32 [B, N] out. https://www.tensorflow.org/hub/common_saved_model_apis/images
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import os
from collections.abc import Callable
from typing import Any, Literal

from transforms import builtin
from transforms.errors import UserError, one_line

Task = Literal["feature_vector", "classification"]


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """Which model: what a worker needs in order to load it.

    Attributes:
      name: directory of a SavedModel, or the name of the built-in model.
      task: what the model is asked for.
    """

    name: str = builtin.NAME
    task: Task = "feature_vector"

    @property
    def is_builtin(self) -> bool:
        """Whether it is the model that comes with this program."""
        return self.name == builtin.NAME

    def directory(self) -> str:
        """The SavedModel's directory on this machine; the built-in model is exported if needed."""
        if not self.is_builtin:
            return self.name
        try:
            return builtin.exported(self.task)
        except OSError as error:
            raise UserError(
                f"--model {self.name}: cannot be written to the cache: {one_line(error)}; set "
                "BEAM_IMAGE_FEATURES_CACHE to a directory that can be written"
            ) from error


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model's function and what its signature fixes.

    Attributes:
      call: from a float32 tensor [B, H, W, 3] in [0, 1] to a float32 tensor [B, N].
      height, width: in pixels, where the signature fixes them, else None.
      owner: keeps the model's variables alive.
    """

    call: Callable[[Any], Any]
    height: int | None
    width: int | None
    owner: Any


def load(source: ModelSource) -> LoadedModel:
    """Loads a SavedModel and finds the function that takes images.

    Looked for in this order: `__call__`, the signatures `serving_default` and `default`, a sole
    signature.

    Raises:
      UserError: the directory holds no SavedModel, or no such function.
    """
    import tensorflow as tf

    directory = source.directory()
    check_is_saved_model(directory)
    try:
        model = tf.saved_model.load(directory, tags=_tags(directory))
    except Exception as error:  # a damaged model raises anything, even IndexError
        raise UserError(f"--model {source.name}: cannot be loaded: {one_line(error)}") from error
    if callable(model):
        height, width = _callable_size(model)
        return LoadedModel(_inference_call(model), height, width, model)
    name = _signature_name(source.name, list(model.signatures))
    signature = model.signatures[name]
    height, width = _signature_size(signature)
    return LoadedModel(_call_signature(source.name, name, signature), height, width, model)


def check_is_saved_model(directory: str) -> None:
    """Raises a UserError that says what is missing if `directory` is no SavedModel."""
    if not os.path.isdir(directory):
        raise UserError(
            f"--model {directory}: no such directory; give a SavedModel's directory or "
            f"{builtin.NAME} (the built-in)"
        )
    if not os.path.exists(os.path.join(directory, "saved_model.pb")):
        names = ", ".join(sorted(os.listdir(directory))[:10]) or "nothing"
        raise UserError(f"--model {directory}: no saved_model.pb in it; it holds {names}")


def fingerprint(source: ModelSource) -> str:
    """SHA-256 of what decides a model's numbers: its graph, variables and assets."""
    if source.is_builtin:
        return builtin.fingerprint(source.task)
    check_is_saved_model(source.name)
    digest = hashlib.sha256()
    for path in _files(source.name):
        name = os.path.relpath(path, source.name)
        digest.update(f"{name}\0{os.path.getsize(path)}\0".encode())
        with open(path, "rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


def files_state(source: ModelSource) -> tuple[tuple[str, int, int], ...]:
    """Name, size and modification time of the model's files: changes when it is saved anew."""
    if source.is_builtin:
        return ()
    status = [(path, os.stat(path)) for path in _files(source.name)]
    return tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in status)


def _files(directory: str) -> list[str]:
    return sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(directory, followlinks=True)
        for name in names
    )


def _tags(directory: str) -> list[str] | None:
    """Which of several graphs to load: for serving, or the untagged one of a TF1 Hub module."""
    from tensorflow.core.protobuf import saved_model_pb2

    with open(os.path.join(directory, "saved_model.pb"), "rb") as file:
        graphs = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
    tag_sets = [sorted(graph.meta_info_def.tags) for graph in graphs]
    if len(tag_sets) == 1:
        return None
    return next((tags for tags in (["serve"], []) if tags in tag_sets), None)


def _inference_call(model: Any) -> Callable[[Any], Any]:
    """The model's `__call__`, in inference mode where it knows another."""
    arguments = inspect.getfullargspec(model.__call__)
    known = {"training"} & {*arguments.args, *arguments.kwonlyargs}
    return lambda images: _sole_output(model(images, **dict.fromkeys(known, False)))


def _sole_output(outputs: Any) -> Any:
    """The one tensor that a model gives, alone or in a list or dictionary.

    Raises:
      ValueError: it gives several.
    """
    while isinstance(outputs, (dict, list, tuple)):
        if len(outputs) != 1:
            names = ", ".join(map(str, outputs)) if isinstance(outputs, dict) else len(outputs)
            raise ValueError(f"the model gives several outputs ({names}); one is needed")
        [outputs] = outputs.values() if isinstance(outputs, dict) else outputs
    return outputs


def _signature_name(model: str, names: list[str]) -> str:
    for name in ("serving_default", "default"):
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    raise UserError(
        f"--model {model}: neither callable nor with a signature serving_default or default; "
        f"signatures: {', '.join(names) or 'none'}"
    )


def _call_signature(model: str, name: str, signature: Any) -> Callable[[Any], Any]:
    """The signature as a function of one positional tensor with one output."""
    inputs = sorted(signature.structured_input_signature[1])
    outputs = sorted(signature.structured_outputs)
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(
            f"--model {model}: signature {name} has inputs {', '.join(inputs)} and outputs "
            f"{', '.join(outputs)}; one of each is needed"
        )
    return lambda images: signature(**{inputs[0]: images})[outputs[0]]


def _callable_size(model: Any) -> tuple[int | None, int | None]:
    """Height and width that all traced image functions of the model's `__call__` agree on."""
    sizes = set()
    for function in getattr(model.__call__, "concrete_functions", ()):
        shape = getattr(function.inputs[0], "shape", None) if function.inputs else None
        if shape is not None and shape.rank == 4:
            sizes.add((shape[1], shape[2]))
    return sizes.pop() if len(sizes) == 1 else (None, None)


def _signature_size(signature: Any) -> tuple[int | None, int | None]:
    [spec, *_] = signature.structured_input_signature[1].values()
    return (spec.shape[1], spec.shape[2]) if spec.shape.rank == 4 else (None, None)
