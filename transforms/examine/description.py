"""What a published model is, without running it: functions, parameters, ops, size on disk."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from transforms.models import trust
from transforms.models.described import ModelDescription, read_description
from transforms.models.source import ModelSource, files_state

CALLABLE, KERAS_CALLABLE = "__call__", "call"

_NOT_PARAMETERS = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter", "global_step")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output; `shape` is None where the rank is unknown."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} {shape_text(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Function:
    """Something that can be called: a trace of `__call__`, a signature, or Keras's `call`."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True)
class Description:
    """What a model is.

    Attributes:
      functions: what can be called.
      hyper_parameters: arguments of `__call__` besides the images and `training`.
      takes_training: whether `__call__` has the argument `training`.
      variables: how many the model lists; None: it has no such list.
      trainable_variables, regularization_losses: likewise.
      parameters: how many numbers its variables hold; constants in the graph are not counted.
      parameter_bytes: their size in memory.
      dtypes: of the variables.
      disk_bytes: size of the model's files.
      ops: how often each op type occurs in what loading and calling can run.
      forbidden: the ops that reach outside the model.
      own: what it says of itself; None: nothing.
    """

    functions: tuple[Function, ...]
    hyper_parameters: tuple[str, ...]
    takes_training: bool
    variables: int | None
    trainable_variables: int | None
    regularization_losses: int | None
    parameters: int
    parameter_bytes: int
    dtypes: tuple[str, ...]
    disk_bytes: int
    ops: Mapping[str, int]
    forbidden: tuple[str, ...]
    own: ModelDescription | None = None

    @property
    def fine_tunable(self) -> bool:
        """Whether it can be called and lists variables to train.

        `training` is optional in Reusable SavedModels.
        """
        return self.is_callable and bool(self.trainable_variables)

    @property
    def is_callable(self) -> bool:
        """Whether the object itself can be called, and not only signatures."""
        return any(function.name in (CALLABLE, KERAS_CALLABLE) for function in self.functions)


def shape_text(shape: tuple[int | None, ...] | None) -> str:
    """A shape as people write it.

    >>> shape_text((None, None, 224, 3))
    '[B, ?, 224, 3]'
    """
    if shape is None:
        return "of unknown rank"
    sizes = [("?" if i else "B") if size is None else str(size) for i, size in enumerate(shape)]
    return f"[{', '.join(sizes)}]"


def describe(source: ModelSource, owner: Any, report: trust.TrustReport) -> Description:
    """Describes a model.

    Args:
      source: where it is.
      owner: the loaded object; None: it was not loaded, only its files tell.
      report: of its ops.

    Raises:
      OSError, ValueError: its files cannot be read.
      UserError: what it says of itself is damaged.
    """
    arguments = _arguments(owner)
    parameters = _parameters(source, owner)
    return Description(
        functions=tuple(dict.fromkeys([*_traces(owner), *_signatures(source)])),
        hyper_parameters=tuple(name for name in arguments if name != "training"),
        takes_training="training" in arguments,
        variables=_count(owner, "variables"),
        trainable_variables=_count(owner, "trainable_variables"),
        regularization_losses=_count(owner, "regularization_losses"),
        parameters=sum(size for size, _ in parameters),
        parameter_bytes=sum(size * dtype.size for size, dtype in parameters),
        dtypes=tuple(sorted({dtype.name for _, dtype in parameters})),
        disk_bytes=_disk_bytes(source),
        ops=report.ops,
        forbidden=tuple(map(str, report.forbidden)),
        own=read_description(source),
    )


def _is_keras(owner: Any) -> bool:
    return hasattr(owner, "get_config") and hasattr(owner, "output_names")


def _concrete_functions(owner: Any) -> list[Any]:
    return list(getattr(owner.__call__, "concrete_functions", ())) if callable(owner) else []


def _arguments(owner: Any) -> list[str]:
    """The arguments of `__call__` after the images."""
    if _is_keras(owner):
        return ["training"]
    if not _concrete_functions(owner):
        return []
    known = inspect.getfullargspec(owner.__call__)
    return [name for name in [*known.args, *known.kwonlyargs] if name != "self"][1:]


def _count(owner: Any, attribute: str) -> int | None:
    # Keras gives an unfinished list as `losses`; SavedModels have the name of the interface.
    value = getattr(owner, attribute, None)
    if value is None and attribute == "regularization_losses" and _is_keras(owner):
        value = owner.losses
    return None if value is None else len(value)


def _traces(owner: Any) -> Iterable[Function]:
    import tensorflow as tf

    if _is_keras(owner):
        names = [*owner.output_names]
        structure = getattr(owner, "_outputs_struct", None)  # what the model answers with
        if isinstance(structure, dict) and len(structure) == len(names):
            names = sorted(structure)
        yield Function(
            KERAS_CALLABLE,
            tuple(_tensor(tensor, tensor.name) for tensor in owner.inputs),
            tuple(map(_tensor, owner.outputs, names)),
        )
        return
    for function in _concrete_functions(owner):
        inputs = [
            spec
            for spec in tf.nest.flatten(function.structured_input_signature)
            if isinstance(spec, tf.TensorSpec)
        ]
        yield Function(
            CALLABLE,
            tuple(_tensor(spec, spec.name or "images") for spec in inputs),
            tuple(_outputs(function.structured_outputs)),
        )


def _outputs(structure: Any) -> Iterable[Tensor]:
    if isinstance(structure, (list, tuple)):
        structure = dict(enumerate(structure))
    if not isinstance(structure, Mapping):
        structure = {"output": structure}
    for name, spec in sorted(structure.items(), key=str):
        if hasattr(spec, "shape"):
            yield _tensor(spec, str(name))


def _tensor(spec: Any, name: str) -> Tensor:
    import tensorflow as tf

    shape = tf.TensorShape(spec.shape)
    return Tensor(
        name, tf.as_dtype(spec.dtype).name, None if shape.rank is None else tuple(shape.as_list())
    )


def _signatures(source: ModelSource) -> Iterable[Function]:
    import tensorflow as tf

    if source.is_keras_file:
        return
    for graph in tf.__internal__.saved_model.parse_saved_model(source.local_path()).meta_graphs:
        if source.tags is not None and set(source.tags) != set(graph.meta_info_def.tags):
            continue
        for name, signature in sorted(graph.signature_def.items()):
            if not name.startswith("__saved_model"):
                yield Function(
                    name, tuple(_infos(signature.inputs)), tuple(_infos(signature.outputs))
                )


def _infos(infos: Mapping[str, Any]) -> Iterable[Tensor]:
    import tensorflow as tf

    for name, info in sorted(infos.items()):
        shape = tf.TensorShape(info.tensor_shape)
        yield Tensor(
            name,
            tf.as_dtype(info.dtype).name,
            None if shape.rank is None else tuple(shape.as_list()),
        )


def _parameters(source: ModelSource, owner: Any) -> list[tuple[int, Any]]:
    """Size and dtype of each variable: those the model lists, else those of its checkpoint."""
    import tensorflow as tf

    if getattr(owner, "variables", None):
        listed = {id(variable): variable for variable in owner.variables}.values()
        return [(math.prod(v.shape), tf.as_dtype(v.dtype)) for v in listed]
    prefix = os.path.join(source.local_path(), "variables", "variables")
    if not os.path.exists(f"{prefix}.index"):
        return []
    reader = tf.train.load_checkpoint(prefix)
    dtypes = reader.get_variable_to_dtype_map()
    return [
        (math.prod(shape), dtypes[name])
        for name, shape in reader.get_variable_to_shape_map().items()
        if not name.startswith(_NOT_PARAMETERS) and ".OPTIMIZER_SLOT" not in name
    ]


def _disk_bytes(source: ModelSource) -> int:
    path = source.local_path()  # the built-in's files too, which `files_state` leaves out
    return sum(size for _, size, _ in files_state(ModelSource(name=path, path=path)))
