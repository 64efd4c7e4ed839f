"""What of a SavedModel's protocol buffers loading and calling it can run.

Nothing is loaded or executed. Which function is called is decided here alone, for whoever checks a
model and for whoever loads it. Every function of a model is a part of its program, whether anything
is seen to call it or not; only the main graph of a TF1 model is run in parts, by what is fetched.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from transforms.models.trust import ops

if TYPE_CHECKING:
    from tensorflow.core.framework.attr_value_pb2 import AttrValue
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, TensorInfo

_INIT_SIGNATURE = "__saved_model_init_op"
_NOT_CALLABLE = (_INIT_SIGNATURE, "__saved_model_train_op")
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op", "table_initializer")


@dataclasses.dataclass(frozen=True)
class Step:
    """A node of the program.

    Attributes:
      function: that it is in; empty for the main graph.
      node: what it is.
      is_own_file: whether it reads a table from an asset of the model, or saves or restores as
        nobody but TensorFlow's loader asks it to.
    """

    function: str
    node: NodeDef
    is_own_file: bool = False


class UndecidedError(LookupError):
    """A model has no such signature, or none is the one for the task."""


class Program:
    """One meta graph: its functions, main graph, objects and assets.

    Args:
      meta: the graph.
      directory: of the SavedModel.
      is_only_graph: whether the SavedModel has no other: TensorFlow loads the objects and functions
        of such a one, and the main graph of one of several.
    """

    def __init__(self, meta: MetaGraphDef, directory: str, is_only_graph: bool):
        self._meta = meta
        self._assets = os.path.join(os.path.realpath(directory), "assets")
        self._directory = directory
        self._nodes = {node.name: node for node in meta.graph_def.node}
        self._objects = meta.object_graph_def
        self._has_objects = is_only_graph and meta.HasField("object_graph_def")
        self.functions = {f.signature.name: f for f in meta.graph_def.library.function}
        self._by_nodes = {  # these get any arguments
            name
            for function in self.functions.values()
            for node in function.node_def
            for name in _functions_in(node)
        }
        for gradient in meta.graph_def.library.gradient:
            self._by_nodes.update((gradient.function_name, gradient.gradient_func))
        # One that implements the same may be called in place of another.
        self._by_nodes.update(n for n, f in self.functions.items() if "api_implements" in f.attr)

    # What is called

    @property
    def is_callable(self) -> bool:
        """Whether the model itself can be called: its `__call__` is a function with traces."""
        root = self._children(0) if self._has_objects else {}
        if "__call__" not in root:
            return False
        call = self._objects.nodes[root["__call__"]]
        return bool(call.function.concrete_functions) and not call.registered_name

    @property
    def signatures(self) -> list[str]:
        """Those that can be called, sorted."""
        if not self._has_objects:
            return sorted(set(self._meta.signature_def).difference(_NOT_CALLABLE))
        root = self._children(0)
        return sorted(self._children(root["signatures"])) if "signatures" in root else []

    def called(self, signature: str | None, task: str) -> str | None:
        """The signature that is called; None: the model itself.

        Raises:
          UndecidedError: there is no such signature, or none is the one for the task.
        """
        names = self.signatures
        if signature is not None:
            if signature not in names:
                raise UndecidedError(signature)
            return signature
        if self.is_callable:
            return None
        usual = [n for n in (f"image_{task}", "serving_default", "default") if n in names]
        if not usual and len(names) != 1:
            raise UndecidedError(task)
        return (usual or names)[0]

    # The program

    def steps(self) -> Iterator[Step]:
        """All that loading and calling can run, whatever is called."""
        run, restored, idle = self._main_graph()
        named = self._named_by_objects() if self._has_objects else set()
        called = {name for node in (*run, *restored) for name in _functions_in(node)}
        saving = self.functions.keys() - self._by_nodes - named - called
        for name, function in self.functions.items():
            assets = self._bound_assets(name) if name in named - self._by_nodes else ()
            for node in function.node_def:
                is_own = name in saving and node.op in (*ops.SAVES, *ops.RESTORES)
                reads = node.op in ops.READS_TABLE and node.input[1] in assets
                yield Step(name, node, is_own or reads)
        for node in run:
            yield Step("", node, self._initialises_from_asset(node))
        for node in restored:
            own = _same_tensor(node.input, 0, self._meta.saver_def.filename_tensor_name)
            yield Step("", node, node.op in ops.RESTORES and own)
        yield from (Step("", node) for node in idle if ops.runs_unasked(node.op))

    def reached(self, signatures: Collection[str] | None) -> Iterator[Step]:
        """What is seen to run where these signatures, or None for the model itself, are called."""
        root = self._children(0) if self._has_objects else {}
        saved = self._children(root["signatures"]) if "signatures" in root else {}
        waiting = list(self._run_by_loading())
        nodes = {} if self._has_objects else self._upstream(self._init_targets(), ())
        if signatures is None:
            waiting += self._objects.nodes[root["__call__"]].function.concrete_functions
        for name in signatures or ():
            if self._has_objects:
                waiting.append(self._concrete(saved[name]))
            else:
                nodes.update(self._signature_nodes(name))
        for node in nodes.values():
            yield Step("", node)
            waiting += _functions_in(node)
        seen: set[str] = set()
        while waiting:
            function = waiting.pop()
            if function in self.functions and function not in seen:
                seen.add(function)
                for node in self.functions[function].node_def:
                    yield Step(function, node)
                    waiting += _functions_in(node)

    def _children(self, index: int) -> dict[str, int]:
        return {c.local_name: c.node_id for c in self._objects.nodes[index].children}

    def _concrete(self, index: int) -> str:
        node = self._objects.nodes[index]
        names = node.function.concrete_functions
        return names[0] if names else node.bare_concrete_function.concrete_function_name

    def _named_by_objects(self) -> set[str]:
        """The functions that TensorFlow gives to objects, which may call them."""
        named = set(self._objects.concrete_functions)
        for node in self._objects.nodes:
            named.update(node.function.concrete_functions)
            named.add(node.bare_concrete_function.concrete_function_name)
            named.add(node.captured_tensor.concrete_function)
        return named

    def _run_by_loading(self) -> Iterator[str]:
        """Functions that make, fill, save and restore tables and other resources."""
        for index, node in enumerate(self._objects.nodes if self._has_objects else ()):
            if node.WhichOneof("kind") == "resource":
                yield from map(self._concrete, self._children(index).values())
            for saveable in node.saveable_objects.values():
                yield self._concrete(saveable.restore_function)

    def _bound_assets(self, function: str) -> Collection[str]:
        """The arguments of a function that are always the paths of assets of this model."""
        arguments = self.functions[function].signature.input_arg
        bound = self._objects.concrete_functions[function].bound_inputs
        if len(bound) > len(arguments):
            return ()
        last = arguments[len(arguments) - len(bound) :]
        return {a.name for a, node in zip(last, bound, strict=True) if self._is_own_asset(node)}

    def _is_own_asset(self, index: int) -> bool:
        node = self._objects.nodes[index]
        if node.WhichOneof("kind") != "asset" or node.registered_name:
            return False
        file = self._meta.asset_file_def[node.asset.asset_file_def_index]
        return self._is_within(os.path.join(self._directory, "assets", file.filename))

    def _is_within(self, path: str) -> bool:
        """Whether a file lies in the model's assets, and neither it nor a folder is a link."""
        below = os.path.relpath(path, os.path.join(self._directory, "assets"))
        own = os.path.normpath(os.path.join(self._assets, below))
        is_below = own.startswith(self._assets + os.sep)
        return is_below and os.path.realpath(path) == own and os.path.isfile(own)

    # The main graph, which TensorFlow runs in a model without objects

    def _main_graph(self) -> tuple[list[NodeDef], list[NodeDef], list[NodeDef]]:
        """The nodes that are run, those that restore the variables, and all others."""
        if self._has_objects:
            return [], [], []
        run = self._upstream(self._init_targets(), ())
        for name in self._meta.signature_def:
            run.update(self._signature_nodes(name))
        restored = self._upstream([self._meta.saver_def.restore_op_name], ())
        idle = [node for name, node in self._nodes.items() if name not in {*run, *restored}]
        return list(run.values()), list(restored.values()), idle

    def _signature_nodes(self, name: str) -> dict[str, NodeDef]:
        signature = self._meta.signature_def[name]
        outputs = [t for info in signature.outputs.values() for t in _tensors(info)]
        inputs = [t for info in signature.inputs.values() for t in _tensors(info)]
        return self._upstream(outputs, inputs)

    def _init_targets(self) -> Iterator[str]:
        """The nodes that loading runs to initialise."""
        from tensorflow.core.framework.variable_pb2 import VariableDef

        for info in self._meta.signature_def[_INIT_SIGNATURE].outputs.values():
            yield from _tensors(info)
        for collection in _INIT_COLLECTIONS:
            yield from self._meta.collection_def[collection].node_list.value
        for variable in self._meta.collection_def["local_variables"].bytes_list.value:
            yield VariableDef.FromString(variable).initializer_name

    def _initialises_from_asset(self, node: NodeDef) -> bool:
        """Whether a node fills a table from an asset, and only where loading gives its path."""
        from tensorflow.python.saved_model.loader_impl import get_asset_tensors

        if node.op not in ops.READS_TABLE:
            return False
        for name in self._meta.signature_def:
            if name != _INIT_SIGNATURE and node.name in self._signature_nodes(name):
                return False
        given = get_asset_tensors(self._directory, self._meta)
        return any(
            _same_tensor(node.input, 1, tensor) and self._is_within(os.fsdecode(path))
            for tensor, path in given.items()
        )

    def _upstream(self, targets: Iterable[str], fed: Iterable[str]) -> dict[str, NodeDef]:
        """The nodes, by name, that compute `targets` where `fed` are given."""
        given = {_tensor_name(tensor) for tensor in fed}
        waiting = list(targets)
        found: dict[str, NodeDef] = {}
        while waiting:
            tensor = waiting.pop()
            name = _node_name(tensor)
            if name in self._nodes and name not in found and _tensor_name(tensor) not in given:
                found[name] = self._nodes[name]
                waiting += found[name].input
        return found


def _functions_in(node: NodeDef) -> Iterator[str]:
    """The names of functions that a node may call; its op may be one."""
    yield node.op
    for attribute in node.attr.values():
        yield from _functions_of(attribute)


def _functions_of(attribute: AttrValue) -> Iterator[str]:
    for function in (attribute.func, *attribute.list.func):
        yield function.name
        for inner in function.attr.values():
            yield from _functions_of(inner)


def _tensors(info: TensorInfo) -> Iterator[str]:
    """The names of the tensors, or the operation, that a signature's input or output is."""
    sparse = info.coo_sparse
    yield info.name
    yield from (sparse.values_tensor_name, sparse.indices_tensor_name)
    yield sparse.dense_shape_tensor_name
    for component in info.composite_tensor.components:
        yield from _tensors(component)


def _same_tensor(inputs: Collection[str], position: int, tensor: str) -> bool:
    name = list(inputs)[position] if position < len(inputs) else ""
    return bool(name) and _tensor_name(name) == _tensor_name(tensor)


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").split(":")[0]


def _tensor_name(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"
