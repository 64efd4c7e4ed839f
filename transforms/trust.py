"""A SavedModel is a program: what it can reach outside itself, found without loading it.

`check` follows, in the SavedModel's protocol buffers, everything that loading and calling it can
run, and names the ops that read or write files, use the network, run Python or are no ops of
TensorFlow. `scan_keras` does what can be done for a `.keras` file. Neither is a sandbox: an allowed
op may have a bug, and a model may need all memory or never end.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from transforms.errors import UserError, one_line

if TYPE_CHECKING:
    from tensorflow.core.framework.attr_value_pb2 import AttrValue
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, TensorInfo
    from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObject

Reason = Literal[
    "reads files",
    "writes files",
    "uses the network",
    "runs Python",
    "runs code that cannot be checked",
    "ends the process",
    "unknown to this TensorFlow",
]

# By name without a leading `_` or `Experimental` and without a trailing V2, V3, …; a name that ends
# with `*` stands for a family. Chosen from the 1,910 ops of TensorFlow 2.21.
_FORBIDDEN: Mapping[Reason, str] = {
    "reads files": """
        ReadFile MatchingFiles WholeFileReader TextLineReader TFRecordReader LMDBReader
        FixedLengthRecordReader RecordInput ImmutableConst Skipgram LoadAndRemapMatrix
        GenerateVocabRemapping Restore RestoreSlice DTensorRestore InitializeTRTResource
        MatchingFilesDataset TextLineDataset TFRecordDataset FixedLengthRecordDataset CSVDataset
        SqlDataset LMDBDataset LoadDataset ListSnapshotChunksDataset SnapshotChunkDataset
        SnapshotDatasetReader SnapshotNestedDatasetReader""",
    "writes files": """
        WriteFile Save SaveSlices MergeV2Checkpoints SaveDataset SnapshotDataset DatasetToTFRecord
        CacheDataset CreateSummaryFileWriter CreateSummaryDbWriter ImportEvent WriteSummary
        WriteAudioSummary WriteGraphSummary WriteHistogramSummary WriteImageSummary
        WriteRawProtoSummary WriteScalarSummary DumpTensor CalibrationStatisticsSaver""",
    "uses the network": """
        DataServiceDataset RegisterDataset DistributedSave RemoteCall Rpc* Collective* Nccl* Send
        Recv HostSend HostRecv XlaSendToHost XlaRecvFromHost FileSystemSetConfiguration
        ConfigureDistributedTPU ShutdownDistributedTPU WaitForDistributedTPU
        InitializeHostForDistributedTPU DisconnectHostFromDistributedTPUSystem
        ConfigureAndInitializeGlobalTPU ShutdownTPUSystem ConnectTPUEmbeddingHosts
        WorkerHeartbeat""",
    "runs Python": "PyFunc PyFuncStateless EagerPyFunc",
    "runs code that cannot be checked": """
        DatasetFromGraph DeserializeIterator XlaCustomCall MlirPassthroughOp XlaHostComputeMlir
        TPUCompileMlir TRTEngineOp""",
    "ends the process": "Abort",
}
_REASONS = {name: reason for reason, names in _FORBIDDEN.items() for name in names.split()}
_FAMILIES = {name[:-1]: reason for name, reason in _REASONS.items() if name.endswith("*")}

# Forbidden unless an attribute has one of these values.
_FORBIDDEN_BY_ATTRIBUTE: Mapping[str, tuple[str, bytes, Reason]] = {
    "Print": ("output_stream", rb"|stderr|stdout|log\(\w+\)", "writes files"),
    "DecodeProto": ("descriptor_source", rb"|local://|bytes://.*", "reads files"),
    "EncodeProto": ("descriptor_source", rb"|local://|bytes://.*", "reads files"),
    "FixedUnigramCandidateSampler": ("vocab_file", rb"", "reads files"),
    "DebugIdentity": ("debug_urls", rb"", "writes files"),
    "DebugNanCount": ("debug_urls", rb"", "writes files"),
    "DebugNumericSummary": ("debug_urls", rb"", "writes files"),
}

_RESTORE = ("Restore", "RestoreV2", "RestoreSlice")
_INIT_SIGNATURE = "__saved_model_init_op"
_NOT_CALLABLE = (_INIT_SIGNATURE, "__saved_model_train_op")
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op", "table_initializer")

_MAX_KERAS_CONFIG_BYTES = 2**28
_KERAS_CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper")


@dataclasses.dataclass(frozen=True, order=True)
class ForbiddenOp:
    """An op that reaches outside the model.

    Attributes:
      op: its type, as `ReadFile`; for a Keras file a class or function.
      function: the function that it is in, by its name in Python; empty for the main graph. For a
        Keras file the layer.
      reason: what it does.
    """

    op: str
    function: str
    reason: Reason

    def __str__(self) -> str:
        place = f"in function {self.function}: " if self.function else ""
        return f"{self.op} ({place}{self.reason})"


@dataclasses.dataclass(frozen=True)
class TrustReport:
    """What a model can run.

    Attributes:
      forbidden: the ops that reach outside the model, sorted, each once for each function.
      ops: how often each op type occurs in what loading (but for restoring) and calling can run,
        most frequent first; a function counts once, and each trace of `__call__` is a function.
        For a Keras file the classes of the layers.
    """

    forbidden: tuple[ForbiddenOp, ...]
    ops: Mapping[str, int]


def check(
    directory: str, signature: str | None = None, tags: Collection[str] | None = None
) -> TrustReport:
    """Finds the ops of a SavedModel that reach outside it; nothing of it is loaded or run.

    Looked at, with all functions that they call, are: what is called; what loading runs to create
    and initialise resources; and what restores the variables, which alone may read a checkpoint. A
    lookup table may read one of the model's own assets. Functions that nothing calls are not looked
    at, nor is the StableHLO inside jax2tf's XlaCallModule, which can only compute.

    Args:
      directory: the SavedModel's.
      signature: the one that will be called. None stands for `__call__`; all signatures are looked
        at where the model has no such function.
      tags: of the meta graph that will be loaded; None stands for every meta graph.

    Raises:
      UserError: there is no SavedModel, it is damaged, or no meta graph has these tags.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        saved_model = tf.__internal__.saved_model.parse_saved_model(directory)
    except (OSError, UnicodeDecodeError, tf.errors.OpError) as error:
        raise UserError(f"--model {directory}: cannot be read: {one_line(error)}") from error
    graphs = saved_model.meta_graphs
    if not graphs:
        raise UserError(f"--model {directory}: saved_model.pb is damaged: it holds no graph")
    chosen = [g for g in graphs if tags is None or set(g.meta_info_def.tags) == set(tags)]
    if not chosen:
        have = ", ".join(str(sorted(g.meta_info_def.tags)) for g in graphs)
        raise UserError(
            f"--model {directory}: no graph has the tags {sorted(tags or ())}; there is {have}"
        )
    forbidden: set[ForbiddenOp] = set()
    counts: collections.Counter[str] = collections.Counter()
    for graph in chosen:
        try:
            program = _Program(graph, directory, has_objects=len(graphs) == 1)
            ran = list(program.run(signature))
            restored = list(program.restore())
        except (IndexError, ValueError, DecodeError) as error:  # a reference to what is not there
            raise UserError(f"--model {directory}: saved_model.pb is damaged") from error
        forbidden.update(_forbidden(ran, program.functions))
        restored = [step for step in restored if step.node.op not in _RESTORE]
        forbidden.update(_forbidden(restored, program.functions))
        counts.update({(step.function, step.node.name): step.node.op for step in ran}.values())
    return TrustReport(tuple(sorted(forbidden)), dict(counts.most_common()))


def scan_keras(path: str) -> TrustReport:
    """Finds the Python code that a `.keras` file carries or asks for, from its config.json alone.

    That is Lambda layers and others that carry code, which Keras too refuses in its safe mode, and
    custom classes and functions.

    Raises:
      UserError: the file is no Keras 3 model, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > _MAX_KERAS_CONFIG_BYTES:
                raise UserError(f"--model {path}: its config.json is too large for a model's")
            config = json.loads(archive.read("config.json"))
    except KeyError:
        raise UserError(f"--model {path}: no config.json in it; it is no Keras 3 model") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"--model {path}: config.json is damaged: {one_line(error)}") from error
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise UserError(f"--model {path}: cannot be read: {one_line(error)}") from error
    forbidden: set[ForbiddenOp] = set()
    counts: collections.Counter[str] = collections.Counter()
    waiting: list[tuple[Any, str]] = [(config, "")]
    while waiting:
        value, layer = waiting.pop()
        if isinstance(value, dict):
            name, inner = value.get("class_name"), value.get("config")
            if isinstance(name, str):
                layer = str(inner.get("name", layer)) if isinstance(inner, dict) else layer
                counts[name] += value.get("module") == "keras.layers"
                if _is_custom(value):
                    what = inner if name == "function" else name
                    forbidden.add(ForbiddenOp(str(what), layer, "runs Python"))
            value = list(value.values())
        waiting += [(item, layer) for item in value] if isinstance(value, list) else []
    return TrustReport(tuple(sorted(forbidden)), dict((+counts).most_common()))


def refuse_if_untrusted(name: str, report: TrustReport) -> None:
    """Raises a UserError that names the ops if the model called `name` reaches outside itself."""
    if report.forbidden:
        ops = ", ".join(map(str, report.forbidden))
        raise UserError(
            f"--model {name}: contains ops that reach outside the model: {ops}; if you trust its "
            "publisher, add --trust_model"
        )


@dataclasses.dataclass(frozen=True)
class _Step:
    """A node that can run, in which function, and whether one of its inputs is an asset's path."""

    function: str
    node: NodeDef
    takes_asset: bool


class _Program:
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

    def run(self, signature: str | None) -> Iterator[_Step]:
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

    def restore(self) -> Iterator[_Step]:
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

    def _steps(self, functions: Iterable[str], nodes: Collection[NodeDef]) -> Iterator[_Step]:
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
                yield _Step(function, node, not assets.isdisjoint(inputs))
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


def _forbidden(steps: Iterable[_Step], functions: Collection[str]) -> Iterator[ForbiddenOp]:
    for step in steps:
        reason = _reason(step, functions)
        if reason:
            # As `helper` in `__inference_helper_12`.
            name = re.fullmatch(r"__(?:inference|forward)_(.+?)_\d+", step.function)
            yield ForbiddenOp(step.node.op, name[1] if name else step.function, reason)


def _reason(step: _Step, functions: Collection[str]) -> Reason | None:
    from tensorflow.python.framework import op_def_registry

    op = step.node.op
    name = re.sub(r"^_*(?:Experimental)?|V\d+$", "", op)
    if name in _REASONS:
        return _REASONS[name]
    for prefix, reason in _FAMILIES.items():
        if name.startswith(prefix):
            return reason
    if name == "InitializeTableFromTextFile" and not step.takes_asset:
        return "reads files"
    if name in _FORBIDDEN_BY_ATTRIBUTE:
        attribute, harmless, reason = _FORBIDDEN_BY_ATTRIBUTE[name]
        value = step.node.attr[attribute]
        text = value.s or b" ".join(value.list.s)
        is_fixed = not value.placeholder  # which the function's caller would replace
        return None if is_fixed and re.fullmatch(harmless, text, re.DOTALL) else reason
    is_known = op in functions or op_def_registry.get(op) is not None
    return None if is_known else "unknown to this TensorFlow"


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


def _is_custom(config: Mapping[str, Any]) -> bool:
    """Whether Keras's serialised object carries Python code or is not one of Keras's own."""
    name, registered = config["class_name"], config.get("registered_name")
    module = str(config.get("module") or "keras").split(".")[0]
    return (
        name in _KERAS_CODE
        or module not in ("keras", "builtins")
        or any(
            ">" in str(n) for n in (name, registered, name == "function" and config.get("config"))
        )
    )
