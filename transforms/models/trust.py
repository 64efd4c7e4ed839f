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
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal

from transforms.errors import Parameter, UserError, one_line
from transforms.models.program import Program, Step

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

_MAX_KERAS_CONFIG_BYTES = 2**28
# Where tf_keras says that its models are from; it would import any other module that a file names.
_KERAS_2_MODELS = ("tf_keras.src.engine.functional", "tf_keras.src.engine.sequential")
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


def check_program(
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

    subject = Parameter("model", directory)
    try:
        saved_model = tf.__internal__.saved_model.parse_saved_model(directory)
    except (OSError, UnicodeDecodeError, tf.errors.OpError) as error:
        raise UserError(f"cannot be read: {one_line(error)}", subject=subject) from error
    graphs = saved_model.meta_graphs
    if not graphs:
        raise UserError("saved_model.pb is damaged: it holds no graph", subject=subject)
    chosen = [g for g in graphs if tags is None or set(g.meta_info_def.tags) == set(tags)]
    if not chosen:
        have = ", ".join(str(sorted(g.meta_info_def.tags)) for g in graphs)
        raise UserError(
            f"no graph has the tags {sorted(tags or ())}; there is {have}", subject=subject
        )
    forbidden: set[ForbiddenOp] = set()
    counts: collections.Counter[str] = collections.Counter()
    for graph in chosen:
        try:
            program = Program(graph, directory, has_objects=len(graphs) == 1)
            ran = list(program.run(signature))
            restored = list(program.restore())
        except (IndexError, ValueError, DecodeError) as error:  # a reference to what is not there
            raise UserError("saved_model.pb is damaged", subject=subject) from error
        forbidden.update(_forbidden(ran, program.functions))
        restored = [step for step in restored if step.node.op not in _RESTORE]
        forbidden.update(_forbidden(restored, program.functions))
        counts.update({(step.function, step.node.name): step.node.op for step in ran}.values())
    return TrustReport(tuple(sorted(forbidden)), dict(counts.most_common()))


def check_keras_file(path: str) -> TrustReport:
    """Finds the Python code that a `.keras` file carries or asks for, from its config.json alone.

    That is Lambda layers and others that carry code, which Keras too refuses in its safe mode, and
    custom classes and functions.

    Raises:
      UserError: the file is no Keras 3 model, or damaged.
    """
    subject = Parameter("model", path)
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > _MAX_KERAS_CONFIG_BYTES:
                raise UserError("its config.json is too large for a model's", subject=subject)
            config = json.loads(archive.read("config.json"))
    except KeyError:
        raise UserError("no config.json in it; it is no Keras 3 model", subject=subject) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"config.json is damaged: {one_line(error)}", subject=subject) from error
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise UserError(f"cannot be read: {one_line(error)}", subject=subject) from error
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
            f"contains ops that reach outside the model: {ops}; if you trust its publisher, add ",
            Parameter("trusted", True),
            subject=Parameter("model", name),
        )


def _forbidden(steps: Iterable[Step], functions: Collection[str]) -> Iterator[ForbiddenOp]:
    for step in steps:
        reason = _reason(step, functions)
        if reason:
            # As `helper` in `__inference_helper_12`.
            name = re.fullmatch(r"__(?:inference|forward)_(.+?)_\d+", step.function)
            yield ForbiddenOp(step.node.op, name[1] if name else step.function, reason)


def _reason(step: Step, functions: Collection[str]) -> Reason | None:
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


def _is_custom(config: Mapping[str, Any]) -> bool:
    """Whether Keras's serialised object carries Python code or is not one of Keras's own."""
    name, registered = config["class_name"], config.get("registered_name")
    module = str(config.get("module") or "keras")
    if module not in _KERAS_2_MODELS:
        module = module.split(".")[0]
    return (
        name in _KERAS_CODE
        or module not in ("keras", "builtins", *_KERAS_2_MODELS)
        or any(
            ">" in str(n) for n in (name, registered, name == "function" and config.get("config"))
        )
    )
