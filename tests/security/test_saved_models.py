"""A SavedModel does nothing that it was not checked for: each of these ran, or read, before."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from transforms.errors import UserError
from transforms.models import loading, trust
from transforms.models.source import ModelSource
from transforms.models.trust.program import Program

IMAGES = tf.TensorSpec([None, 8, 8, 3], tf.float32, "images")
TABLE = "InitializeTableFromTextFileV2"
v1 = tf.compat.v1


class Model(tf.Module):
    """Means of colours, a table from an asset, and a function that writes a file."""

    def __init__(self, words: str, victim: str):
        super().__init__()
        line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        initializer = tf.lookup.TextFileInitializer(words, tf.string, line, tf.int64, number)
        self.table = tf.lookup.StaticHashTable(initializer, -1)
        self.scale = tf.Variable(1.0)
        self._victim = victim

    @tf.function(input_signature=[IMAGES])
    def __call__(self, images):
        number = tf.cast(self.table.lookup(tf.constant("b")), tf.float32)
        return tf.reduce_mean(images, [1, 2]) * self.scale + number

    @tf.function(input_signature=[IMAGES])
    def serve(self, images):
        tf.io.write_file(self._victim, "written")
        return {"vectors": tf.reduce_mean(images, [1, 2])}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two models that differ in whether a signature, or nothing, writes `victim`."""
    root = tmp_path_factory.mktemp("saved")
    (root / "words.txt").write_text("a\nb\n")
    model = Model(str(root / "words.txt"), str(root / "victim"))
    tf.saved_model.save(model, str(root / "honest"), {"serving_default": model.__call__})
    tf.saved_model.save(model, str(root / "writes"), {"serving_default": model.serve})
    for name in ("honest", "writes"):
        _edit(root / name, _forget("serve"))
    _edit(root / "honest", _without_function("serve"))
    return root


@pytest.fixture
def copy(saved: pathlib.Path, tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """A copy of one of the models, edited."""

    def make(name: str, change: Callable[[Any], None] = lambda graph: None) -> pathlib.Path:
        shutil.copytree(saved / name, tmp_path / name, symlinks=True)
        return _edit(tmp_path / name, change)

    return make


def _edit(directory: pathlib.Path, change: Callable[[Any], None]) -> pathlib.Path:
    path = directory / "saved_model.pb"
    proto = SavedModel.FromString(path.read_bytes())
    change(proto.meta_graphs[0])
    path.write_bytes(proto.SerializeToString())
    return directory


def _child(graph: Any, name: str) -> Any:
    return next(c for c in graph.object_graph_def.nodes[0].children if c.local_name == name)


def _forget(name: str) -> Callable[[Any], None]:
    """No attribute of the model has this name any more."""

    def change(graph: Any) -> None:
        children = graph.object_graph_def.nodes[0].children
        kept = [child for child in children if child.local_name != name]
        del children[:]
        children.extend(kept)

    return change


def _without_function(name: str) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        functions = graph.graph_def.library.function
        kept = [f for f in functions if name not in f.signature.name]
        del functions[:]
        functions.extend(kept)
        objects = graph.object_graph_def
        for full in [n for n in objects.concrete_functions if name in n]:
            del objects.concrete_functions[full]
        for node in objects.nodes:
            for full in [n for n in node.function.concrete_functions if name in n]:
                node.function.concrete_functions.remove(full)
            if name in node.bare_concrete_function.concrete_function_name:
                node.user_object.identifier = "_generic_user_object"

    return change


def _function(graph: Any, name: str) -> Any:
    return next(f for f in graph.graph_def.library.function if name in f.signature.name)


def refusal(model: pathlib.Path, **how: Any) -> str:
    with pytest.raises(UserError) as info:
        loading.load_model(ModelSource(str(model), **how))
    return str(info.value)


def _means(model: pathlib.Path, **how: Any) -> Any:
    return loading.load_model(ModelSource(str(model), **how)).call(tf.ones([1, 8, 8, 3]))


def test_the_honest_model_needs_no_trust(copy):
    assert _means(copy("honest")).numpy().tolist() == [[2.0, 2.0, 2.0]]


# Which function is called


def test_a_call_without_traces_does_not_hide_the_signature_that_is_called(copy, saved):
    def hollow(graph: Any) -> None:
        call = graph.object_graph_def.nodes[_child(graph, "__call__").node_id]
        del call.function.concrete_functions[:]

    model = copy("writes", hollow)
    assert "WriteFile (in function serve: writes files)" in refusal(model)
    assert not (saved / "victim").exists()


def test_an_object_named_call_with_functions_is_not_called(copy):
    def dress(graph: Any) -> None:
        objects = graph.object_graph_def.nodes
        call = _child(graph, "__call__")
        add = objects.add()
        add.user_object.identifier = "_generic_user_object"
        add.children.add(local_name="__call__", node_id=call.node_id)
        add.children.add(local_name="concrete_functions", node_id=call.node_id)
        call.node_id = len(objects) - 1

    model = copy("honest", dress)
    graph = SavedModel.FromString((model / "saved_model.pb").read_bytes()).meta_graphs[0]
    program = Program(graph, str(model), is_only_graph=True)
    assert program.called(None, "feature_vector") == "serving_default"
    assert loading.load_model(ModelSource(str(model))).function == "serving_default"


def test_a_function_that_nothing_is_seen_to_call_is_checked(copy):
    def unreachable(graph: Any) -> None:
        body = _function(graph, "__call__").node_def
        function = graph.graph_def.library.function.add()
        function.signature.name = "__inference_attic_1"
        function.node_def.add().CopyFrom(body[0])
        function.node_def.add(name="read", op="ReadFile")

    assert "ReadFile (in function attic: reads files)" in refusal(copy("honest", unreachable))


@pytest.mark.parametrize(("saver", "op"), [("traced_save", "SaveV2"), ("restore", "RestoreV2")])
def test_what_saves_and_restores_is_refused_where_the_model_may_call_it(copy, saver, op):
    def call_it(graph: Any) -> None:
        node = _function(graph, "wrapper").node_def.add(name="more", op="PartitionedCall")
        node.attr["f"].func.name = _function(graph, saver).signature.name

    def give_it_to_an_object(graph: Any) -> None:
        names = graph.object_graph_def.nodes[_child(graph, "__call__").node_id].function
        names.concrete_functions.append(_function(graph, saver).signature.name)

    def offer_it_instead(graph: Any) -> None:
        _function(graph, saver).attr["api_implements"].s = b"mean"

    for change in (call_it, give_it_to_an_object, offer_it_instead):
        model = copy("honest", change)
        assert op in refusal(model)
        shutil.rmtree(model)


# Tables and other files


def test_a_table_reads_an_asset_and_no_link(copy, tmp_path):
    (tmp_path / "secret").write_text("a\nb\n")
    model = copy("honest")
    asset = model / "assets" / "words.txt"
    asset.unlink()
    asset.symlink_to(tmp_path / "secret")
    assert f"{TABLE} (in function _initializer: reads files)" in refusal(model)
    asset.unlink()
    os.mkfifo(asset)
    assert TABLE in refusal(model)
    shutil.rmtree(model / "assets")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "words.txt").write_text("a\nb\n")
    (model / "assets").symlink_to(tmp_path / "elsewhere")
    assert TABLE in refusal(model)


def test_a_model_that_is_reached_through_a_link_has_its_assets(copy, tmp_path):
    (tmp_path / "link").symlink_to(copy("honest"))
    assert _means(tmp_path / "link").numpy().tolist() == [[2.0, 2.0, 2.0]]


def test_a_table_whose_path_another_function_gives_is_refused(copy):
    def call_it_too(graph: Any) -> None:
        node = _function(graph, "wrapper").node_def.add(name="more", op="PartitionedCall")
        node.attr["f"].func.name = _function(graph, "_initializer_").signature.name

    assert TABLE in refusal(copy("honest", call_it_too))


def graph_model(directory: pathlib.Path, build: Callable[[Any], tuple[Any, Any]]) -> pathlib.Path:
    """A TF1 model; `build` gives its output and its init op."""
    with v1.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, 8, 8, 3])
        scale = v1.get_variable("scale", initializer=1.0, use_resource=True)
        output, init = build(tf.reduce_mean(images, [1, 2]) * scale)
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(directory))
        signature = v1.saved_model.predict_signature_def({"images": images}, {"default": output})
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"default": signature},
            assets_collection=v1.get_collection("asset_filepaths"),
            main_op=init,
        )
        builder.save()
    return directory


def _fill(filename: tf.Tensor) -> tuple[Any, Any]:
    """A table of a file's lines, and the op that fills it."""
    raw = tf.raw_ops
    table = raw.HashTableV2(key_dtype=tf.int64, value_dtype=tf.string, shared_name="words")
    return table, raw.InitializeTableFromTextFileV2(
        table_handle=table, filename=filename, key_index=-1, value_index=-2
    )


def test_two_variables_of_one_name_carry_no_path_into_a_table(tmp_path):
    """The first is given an asset, the second what the attacker wants, and both are one."""
    (tmp_path / "words.txt").write_text("a\n")
    (tmp_path / "secret").write_text("hunter2\n")

    def build(mean: tf.Tensor) -> tuple[Any, Any]:
        raw = tf.raw_ops
        asset = tf.constant(str(tmp_path / "words.txt"))
        v1.add_to_collection("asset_filepaths", asset)
        first, second = (
            raw.VarHandleOp(dtype=tf.string, shape=[], shared_name="path", name=name)
            for name in ("first", "second")
        )
        with tf.control_dependencies([raw.AssignVariableOp(resource=first, value=asset)]):
            secret = tf.constant(str(tmp_path / "secret"))
            assigned = raw.AssignVariableOp(resource=second, value=secret)
        with tf.control_dependencies([assigned]):
            path = raw.ReadVariableOp(resource=first, dtype=tf.string)
        table, filled = _fill(path)
        line = raw.LookupTableFindV2(
            table_handle=table, keys=tf.constant([0], tf.int64), default_value=tf.constant("")
        )
        read = tf.cast(tf.io.decode_raw(line, tf.uint8)[0, :3], tf.float32)
        return mean + read, filled

    assert f"{TABLE} (reads files)" in refusal(graph_model(tmp_path / "model", build))


def test_a_table_that_a_signature_fills_is_refused(tmp_path):
    """An asset's path is given by loading alone; a signature reads what the graph says instead."""
    (tmp_path / "words.txt").write_text("a\n")

    def build(mean: tf.Tensor) -> tuple[Any, Any]:
        asset = tf.constant(str(tmp_path / "words.txt"))
        v1.add_to_collection("asset_filepaths", asset)
        _, filled = _fill(asset)
        with tf.control_dependencies([filled]):
            return tf.identity(mean), filled

    assert TABLE in refusal(graph_model(tmp_path / "model", build))


def test_variables_are_restored_from_the_models_own_file(tmp_path):
    def elsewhere(graph: Any) -> None:
        restore = next(n for n in graph.graph_def.node if n.op == "RestoreV2")
        path = graph.graph_def.node.add(name="path", op="Const")
        path.attr["dtype"].type = tf.string.as_datatype_enum
        path.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(tmp_path / "other")))
        restore.input[0] = "path:0"

    model = graph_model(tmp_path / "model", lambda mean: (mean, tf.no_op()))
    assert trust.check_program(str(model)).forbidden == ()
    assert "RestoreV2 (reads files)" in refusal(_edit(model, elsewhere))


def test_what_importing_a_graph_runs_is_checked_and_what_nothing_runs_is_not(tmp_path):
    """To know the shapes behind a node, TensorFlow runs what has no state, as ReadFile."""

    def add(op: str) -> Callable[[Any], None]:
        return lambda graph: graph.graph_def.node.add(name="more", op=op)

    model = graph_model(tmp_path / "model", lambda mean: (mean, tf.no_op()))
    assert "ReadFile (reads files)" in refusal(_edit(model, add("ReadFile")))
    _edit(model, lambda graph: graph.graph_def.node.pop())
    assert trust.check_program(str(_edit(model, add("TextLineReaderV2")))).forbidden == ()


# Ops


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        ("XlaCallModule", "runs code that cannot be checked"),
        ("XlaCustomCallV2", "runs code that cannot be checked"),
        ("PrintV2", "writes to the terminal or files"),
        ("MapDataset", "not known to be harmless"),
        ("ParseTensor", "not known to be harmless"),
        ("_FusedConv2D", "not known to be harmless"),
        ("SecretMean", "unknown to this TensorFlow"),
    ],
)
def test_an_op_that_nobody_has_judged_is_named(copy, op, reason):
    def rename(graph: Any) -> None:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                node.op = op if node.op == "Mean" else node.op

    message = refusal(copy("honest", rename))
    assert re.search(
        rf"{op} \(in function (\w+: )?{reason}\)|{op} \(in function .*{reason}", message
    )


def test_a_function_with_the_name_of_an_op_does_not_make_it_harmless(copy):
    def call(graph: Any) -> None:
        function = graph.graph_def.library.function.add()
        function.CopyFrom(_function(graph, "_creator_"))
        function.signature.name = "ReadFile"
        _function(graph, "wrapper").node_def.add(name="more", op="ReadFile")

    assert "ReadFile" in refusal(copy("honest", call))
