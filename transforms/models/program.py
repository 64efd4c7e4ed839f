"""What of a SavedModel's protocol buffers loading and calling it can run.

Nothing is loaded or executed: functions and nodes are followed from what is called, through
everything that they call.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow.core.framework.attr_value_pb2 import AttrValue
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, TensorInfo
    from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObject

_INIT_SIGNATURE = "__saved_model_init_op"
_NOT_CALLABLE = (_INIT_SIGNATURE, "__saved_model_train_op")
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op", "table_initializer")


@dataclasses.dataclass(frozen=True)
class Step:
    """A node that can run, in which function, and whether one of its inputs is an asset's path."""

    function: str
    node: NodeDef
    takes_asset: bool


class Program:
    """One meta graph: its main graph, functions, objects and assets, and what of it can run."""

    def __init__(self, meta: MetaGraphDef, directory: str, has_objects: bool):
        from tensorflow.python.saved_model.loader_impl import get_asset_tensors

        self._meta = meta
        self._nodes = {node.name: node for node in meta.graph_def.node}
        self._objects = meta.object_graph_def
        self._has_objects = has_objects and meta.HasField("object_graph_def")
        library = meta.graph_def.library
        self.functions = {function.signature.name: function for function in library.function}
        # TensorFlow may call a function in place of one that implements the same, or its gradient.
        implementations: dict[bytes, list[str]] = collections.defaultdict(list)
        for name, function in self.functions.items():
            if "api_implements" in function.attr:
                implementations[function.attr["api_implements"].s].append(name)
        self._instead: dict[str, list[str]] = collections.defaultdict(list)
        for same in implementations.values():
            self._instead.update(dict.fromkeys(same, same))
        for gradient in library.gradient:
            self._instead[gradient.function_name] = [
                *self._instead[gradient.function_name],
                gradient.gradient_func,
            ]
        assets = os.path.abspath(os.path.join(directory, "assets"))
        self._asset_tensors = frozenset(
            _node_name(tensor)
            for tensor, path in get_asset_tensors(directory, meta).items()
            if _is_within(assets, os.fsdecode(path))
        )
        self._is_asset_inside = [
            _is_within(assets, os.path.join(assets, file.filename)) for file in meta.asset_file_def
        ]

    def run(self, signature: str | None) -> Iterator[Step]:
        """What calling runs, and what loading runs apart from restoring the variables."""
        root = self._children(0) if self._has_objects else {}
        saved = self._children(root["signatures"]) if "signatures" in root else {}
        defined = self._meta.signature_def
        names = {*saved, *defined}.difference(_NOT_CALLABLE)
        functions = list(self._run_by_loading())
        if signature in names:
            names = {signature}
        elif "__call__" in root:
            functions += self._concrete(root["__call__"])
            names = names if signature else set()
        nodes = self._upstream(self._init_targets(), ())
        for name in names:
            functions += self._concrete(saved[name]) if name in saved else []
            outputs = [t for info in defined[name].outputs.values() for t in _tensors(info)]
            inputs = [t for info in defined[name].inputs.values() for t in _tensors(info)]
            nodes.update(self._upstream(outputs, inputs))
        return self._steps(functions, nodes.values())

    def restore(self) -> Iterator[Step]:
        """What restoring the variables runs."""
        return self._steps((), self._upstream([self._meta.saver_def.restore_op_name], ()).values())

    def _children(self, index: int) -> dict[str, int]:
        return {c.local_name: c.node_id for c in self._objects.nodes[index].children}

    def _concrete(self, index: int) -> Iterator[str]:
        """The traces of an object that is a function, or whose `__call__` is one."""
        seen: set[int] = set()
        while index not in seen:
            seen.add(index)
            node = self._objects.nodes[index]
            bare = node.bare_concrete_function.concrete_function_name
            yield from filter(None, [*node.function.concrete_functions, bare])
            index = self._children(index).get("__call__", index)

    def _run_by_loading(self) -> Iterator[str]:
        """Functions that TensorFlow's loader calls.

        Those that save and restore a table, and those in place of a method of TensorFlow's own
        classes, as `_create_resource` and `_initialize`.
        """
        import tensorflow as tf

        methods = {
            *dir(tf.__internal__.tracking.AutoTrackable),
            *dir(tf.saved_model.experimental.TrackableResource),
        }
        for index, node in enumerate(self._objects.nodes if self._has_objects else ()):
            for name, child in self._children(index).items():
                if name in methods:
                    yield from self._concrete(child)
            for saveable in node.saveable_objects.values():
                yield from self._concrete(saveable.save_function)
                yield from self._concrete(saveable.restore_function)

    def _init_targets(self) -> Iterator[str]:
        """The nodes of the main graph that loading runs to initialise."""
        from tensorflow.core.framework.variable_pb2 import VariableDef

        for info in self._meta.signature_def[_INIT_SIGNATURE].outputs.values():
            yield from _tensors(info)
        for collection in _INIT_COLLECTIONS:
            yield from self._meta.collection_def[collection].node_list.value
        for variable in self._meta.collection_def["local_variables"].bytes_list.value:
            yield VariableDef.FromString(variable).initializer_name

    def _upstream(self, targets: Iterable[str], fed: Iterable[str]) -> dict[str, NodeDef]:
        """The nodes of the main graph, by name, that compute `targets` where `fed` are given."""
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

    def _steps(self, functions: Iterable[str], nodes: Collection[NodeDef]) -> Iterator[Step]:
        """`nodes` of the main graph, and all nodes of `functions` and of the functions they call.

        A function is followed once for each set of its arguments that are paths of assets.
        """
        waiting = [(name, self._bound_assets(name)) for name in functions]
        waiting.append(("", self._asset_tensors))
        seen: set[tuple[str, frozenset[str]]] = set()
        while waiting:
            function, given = waiting.pop()
            if (function, given) in seen or (function and function not in self.functions):
                continue
            seen.add((function, given))
            waiting += [(name, frozenset()) for name in self._instead.get(function, ())]
            body = self.functions[function].node_def if function else nodes
            assets = _asset_paths(body, given)
            for node in body:
                inputs = [_node_name(i) for i in node.input if not i.startswith("^")]
                yield Step(function, node, not assets.isdisjoint(inputs))
                for name in (node.op, *(f for a in node.attr.values() for f in _functions_in(a))):
                    is_call = name == node.op or node.op.endswith("PartitionedCall")
                    if name in self.functions:
                        arguments = self.functions[name].signature.input_arg if is_call else ()
                        passed = zip(arguments, inputs, strict=False)
                        waiting.append((name, frozenset(a.name for a, i in passed if i in assets)))

    def _bound_assets(self, function: str) -> frozenset[str]:
        """The arguments of a saved function that are bound to the paths of assets."""
        if function not in self.functions:
            return frozenset()
        bound = reversed(self._objects.concrete_functions[function].bound_inputs)
        arguments = reversed(self.functions[function].signature.input_arg)
        return frozenset(
            argument.name
            for argument, index in zip(arguments, bound, strict=False)
            if self._is_asset(self._objects.nodes[index])
        )

    def _is_asset(self, node: SavedObject) -> bool:
        is_asset = node.WhichOneof("kind") == "asset"
        return is_asset and self._is_asset_inside[node.asset.asset_file_def_index]


def _asset_paths(nodes: Collection[NodeDef], given: Collection[str]) -> set[str]:
    """The nodes and arguments that hold an asset's path, if those `given` do."""
    known = set(given)
    if known:
        assigned = collections.defaultdict(list)
        for node in nodes:
            if node.op == "AssignVariableOp":
                variable, value, *_ = map(_node_name, node.input)
                assigned[variable].append(value)
        known.update(name for name, values in assigned.items() if known.issuperset(values))
    size = 0
    while size < len(known):
        size = len(known)
        for node in nodes:
            if node.op in ("Identity", "ReadVariableOp") and _node_name(node.input[0]) in known:
                known.add(node.name)
    return known


def _functions_in(attribute: AttrValue) -> Iterator[str]:
    for function in (attribute.func, *attribute.list.func):
        yield function.name
        for inner in function.attr.values():
            yield from _functions_in(inner)


def _tensors(info: TensorInfo) -> Iterator[str]:
    """The names of the tensors, or the operation, that a signature's input or output is."""
    sparse = info.coo_sparse
    yield info.name
    yield from (sparse.values_tensor_name, sparse.indices_tensor_name)
    yield sparse.dense_shape_tensor_name
    for component in info.composite_tensor.components:
        yield from _tensors(component)


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").split(":")[0]


def _tensor_name(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"


def _is_within(directory: str, path: str) -> bool:
    return os.path.abspath(path).startswith(directory + os.sep)
