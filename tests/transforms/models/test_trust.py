"""Ops with which a model reaches outside itself are named before anything of it is loaded."""

from __future__ import annotations

import io
import json
import pathlib
import re
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from transforms.errors import Parameter, UserError
from transforms.models import builtin, trust
from transforms.models.trust import ForbiddenOp

IMAGES = tf.TensorSpec([None, 16, 16, 3], tf.float32, "images")
FILE = "/nowhere/secret.txt"


def mean_colour(images: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(images, [1, 2])


def pixels_of(file: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.io.decode_raw(file, tf.uint8), tf.float32)[:3]


def reads(images: tf.Tensor) -> tf.Tensor:
    return mean_colour(images) + pixels_of(tf.io.read_file(FILE))


def writes(images: tf.Tensor) -> tf.Tensor:
    tf.io.write_file(FILE, tf.io.serialize_tensor(images))
    return mean_colour(images)


def lists(images: tf.Tensor) -> tf.Tensor:
    return mean_colour(images) + tf.cast(tf.size(tf.io.matching_files("/*")), tf.float32)


def calls_python(images: tf.Tensor) -> tf.Tensor:
    return tf.py_function(lambda x: x, [mean_colour(images)], tf.float32)


def calls_numpy(images: tf.Tensor) -> tf.Tensor:
    return tf.numpy_function(lambda x: x, [mean_colour(images)], tf.float32)


def calls_numpy_without_state(images: tf.Tensor) -> tf.Tensor:
    return tf.numpy_function(lambda x: x, [mean_colour(images)], tf.float32, stateful=False)


def prints(images: tf.Tensor) -> tf.Tensor:
    tf.print(images)
    return mean_colour(images)


def prints_into_a_file(images: tf.Tensor) -> tf.Tensor:
    tf.print(images, output_stream=f"file://{FILE}")
    return mean_colour(images)


def reads_a_dataset(images: tf.Tensor) -> tf.Tensor:
    size = tf.data.TextLineDataset([FILE]).reduce(0.0, lambda n, _: n + 1.0)
    return mean_colour(images) + size


def restores_a_checkpoint(images: tf.Tensor) -> tf.Tensor:
    [value] = tf.raw_ops.RestoreV2(
        prefix=FILE, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
    )
    return mean_colour(images) + value


def in_a_while_loop(images: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(lambda x: tf.reduce_sum(x) < 1, lambda x: x + reads(images), [images])[0]


def in_a_branch(images: tf.Tensor) -> tf.Tensor:
    return tf.cond(tf.reduce_sum(images) > 9, lambda: reads(images), lambda: mean_colour(images))


def in_a_called_function(images: tf.Tensor) -> tf.Tensor:
    @tf.function
    def inner(images):
        return reads(images)

    @tf.function
    def outer(images):
        return inner(images) + 1

    return outer(images)


def in_a_map_over_a_dataset(images: tf.Tensor) -> tf.Tensor:
    files = tf.data.Dataset.from_tensors(FILE).map(tf.io.read_file)
    return mean_colour(images) + files.reduce(0.0, lambda n, file: n + pixels_of(file)[0])


class Model(tf.Module):
    """A callable model."""

    def __init__(self, call: Callable = mean_colour, other: Callable = mean_colour):
        super().__init__()
        self.scale = tf.Variable(1.0)
        self._call, self._other = call, other

    @tf.function(input_signature=[IMAGES])
    def __call__(self, images):
        return self._call(images) * self.scale

    @tf.function(input_signature=[IMAGES])
    def other(self, images):
        return self._other(images)


def saved(directory: pathlib.Path, call: Callable) -> str:
    tf.saved_model.save(Model(call), str(directory))
    return str(directory)


def forbidden(directory: str, **how: Any) -> list[tuple[str, str]]:
    """The forbidden ops of a SavedModel and what each does."""
    return [(op.op, op.reason) for op in trust.check_program(directory, **how).forbidden]


def edit(directory: str, change: Callable) -> str:
    """Changes the only meta graph of a SavedModel with `change`."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = pathlib.Path(directory, "saved_model.pb")
    proto = SavedModel.FromString(path.read_bytes())
    [graph] = proto.meta_graphs
    change(graph)
    path.write_bytes(proto.SerializeToString())
    return directory


# What is called


@pytest.mark.parametrize(
    ("call", "op", "reason"),
    [
        (reads, "ReadFile", "reads files"),
        (lists, "MatchingFiles", "reads files"),
        (reads_a_dataset, "TextLineDataset", "reads files"),
        (restores_a_checkpoint, "RestoreV2", "reads files"),
        (writes, "WriteFile", "writes files"),
        (prints, "PrintV2", "writes to the terminal or files"),
        (prints_into_a_file, "PrintV2", "writes to the terminal or files"),
        (calls_python, "EagerPyFunc", "runs Python"),
        (calls_numpy, "PyFunc", "runs Python"),
        (calls_numpy_without_state, "PyFuncStateless", "runs Python"),
        (in_a_while_loop, "ReadFile", "reads files"),
        (in_a_branch, "ReadFile", "reads files"),
        (in_a_called_function, "ReadFile", "reads files"),
        (in_a_map_over_a_dataset, "ReadFile", "reads files"),
    ],
)
def test_an_op_that_reaches_outside_is_named(
    tmp_path: pathlib.Path, call: Callable, op: str, reason: str
) -> None:
    named = forbidden(saved(tmp_path / "model", call))
    assert (op, reason) in named
    # What a dataset is made of is not known to be harmless either.
    assert {other for other in named if "Dataset" not in other[0]} <= {(op, reason)}


def test_the_refusal_names_each_op_its_function_and_what_it_does(tmp_path: pathlib.Path) -> None:
    model = saved(tmp_path / "model", lambda x: in_a_called_function(x) + writes(x))
    with pytest.raises(UserError) as info:
        trust.refuse_if_untrusted("hub/model", trust.check_program(model))
    assert str(info.value) == (
        "model hub/model: contains ops that reach outside the model: ReadFile (in function "
        "inner: reads files), WriteFile (in function __call__: writes files); if you trust its "
        "publisher, add trusted=True"
    )
    assert info.value.subject == Parameter("model", "hub/model")


def test_a_harmless_model_is_not_refused(tmp_path: pathlib.Path) -> None:
    report = trust.check_program(saved(tmp_path / "model", mean_colour))
    trust.refuse_if_untrusted("model", report)
    assert report.ops["Mean"] == 1
    assert list(report.ops.values()) == sorted(report.ops.values(), reverse=True)
    assert not {"SaveV2", "RestoreV2"} & set(report.ops)


def test_what_is_not_called_matters_too(tmp_path: pathlib.Path) -> None:
    model, directory = Model(other=reads), str(tmp_path / "model")
    signatures = {"serving_default": model.__call__, "other": model.other}
    tf.saved_model.save(model, directory, signatures)
    read = [("ReadFile", "reads files")]
    for signature in (None, "serving_default", "other", "misspelt"):
        assert forbidden(directory, signature=signature) == read
    called = trust.check_program(directory, signature="serving_default").ops
    assert "ReadFile" not in called and called["Mean"] == 1
    assert "ReadFile" in trust.check_program(directory, signature="other").ops


def test_where_nothing_is_callable_every_signature_is_told(tmp_path: pathlib.Path) -> None:
    model, directory = Model(other=reads), str(tmp_path / "model")
    root = tf.Module()
    root.model = model
    tf.saved_model.save(root, directory, {"a": model.__call__, "other": model.other})
    assert forbidden(directory) == [("ReadFile", "reads files")]
    assert "ReadFile" in trust.check_program(directory).ops
    assert "ReadFile" not in trust.check_program(directory, signature="a").ops


def test_an_op_of_nobody_is_named(tmp_path: pathlib.Path) -> None:
    def rename(graph: Any) -> None:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                node.op = "SecretMean" if node.op == "Mean" else node.op

    model = edit(saved(tmp_path / "model", mean_colour), rename)
    assert set(forbidden(model)) == {("SecretMean", "unknown to this TensorFlow")}


# What loading runs


class Resource(tf.saved_model.experimental.TrackableResource):
    """Initialised by `initialize`, which loading runs."""

    def __init__(self, initialize: Callable):
        super().__init__()
        self._run = initialize

    def _create_resource(self):
        return tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)

    def _initialize(self):
        self._run(self.resource_handle)


def save_with_resource(directory: pathlib.Path, initialize: Callable) -> str:
    model = Model()
    model.resource = Resource(initialize)
    tf.saved_model.save(model, str(directory))
    return str(directory)


def save_with_table(directory: pathlib.Path) -> str:
    """Saves a model with a lookup table that reads an asset."""
    words = directory.with_suffix(".txt")
    words.write_text("a\nb\n")
    whole_line, line_number = (
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(str(words), tf.string, whole_line, tf.int64, line_number), -1
    )
    model = Model(lambda x: mean_colour(x) + tf.cast(table.lookup(tf.constant("b")), tf.float32))
    model.table = table
    model.seen = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    tf.saved_model.save(model, str(directory), {"serving_default": model.__call__})
    return str(directory)


def test_a_table_that_reads_an_asset_is_harmless(tmp_path: pathlib.Path) -> None:
    model = save_with_table(tmp_path / "model")
    assert forbidden(model) == []
    assert forbidden(model, signature="serving_default") == []
    assert trust.check_program(model).ops["InitializeTableFromTextFileV2"] == 1


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/passwd"])
def test_an_asset_outside_the_model_is_none(tmp_path: pathlib.Path, name: str) -> None:
    def escape(graph: Any) -> None:
        graph.asset_file_def[0].filename = name

    model = edit(save_with_table(tmp_path / "model"), escape)
    assert forbidden(model) == [("InitializeTableFromTextFileV2", "reads files")]


def test_a_table_that_reads_another_file_is_named(tmp_path: pathlib.Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")

    def initialize(table: tf.Tensor) -> None:
        tf.raw_ops.InitializeTableFromTextFileV2(
            table_handle=table, filename=str(words), key_index=-2, value_index=-1
        )

    model = save_with_resource(tmp_path / "model", initialize)
    assert forbidden(model) == [("InitializeTableFromTextFileV2", "reads files")]


def test_what_initialises_a_resource_is_run_by_loading(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "written"

    def initialize(table: tf.Tensor) -> None:
        del table
        tf.io.write_file(str(target), "x")

    model = save_with_resource(tmp_path / "model", initialize)
    assert forbidden(model) == [("WriteFile", "writes files")]
    target.unlink(missing_ok=True)
    loaded = tf.saved_model.load(model)
    assert target.exists()
    del loaded


def test_a_function_in_place_of_a_method_is_run_by_loading(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "written"

    class Sneaky(tf.Module):
        @tf.function(input_signature=[])
        def other(self):
            tf.io.write_file(str(target), "x")

        @tf.function(input_signature=[IMAGES])
        def __call__(self, images):
            return mean_colour(images)

    def rename(graph: Any) -> None:
        for child in graph.object_graph_def.nodes[0].children:
            if child.local_name == "other":
                child.local_name = "_maybe_initialize_trackable"

    directory = str(tmp_path / "model")
    tf.saved_model.save(Sneaky(), directory)
    assert forbidden(edit(directory, rename)) == [("WriteFile", "writes files")]
    tf.saved_model.load(directory)
    assert target.exists()


# TensorFlow 1


def save_graph(
    directory: pathlib.Path,
    outputs: dict[str, Callable],
    init: Callable = tf.no_op,
    tag_sets: Sequence[Sequence[str]] = (["serve"],),
) -> str:
    """Saves a TF1 graph with one signature for each of `outputs`."""
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, 16, 16, 3], "images")
        scale = v1.get_variable("scale", initializer=1.0, use_resource=True)
        predict = v1.saved_model.signature_def_utils.predict_signature_def
        signatures = {
            name: predict({"images": images}, {"vectors": output(images) * scale})
            for name, output in outputs.items()
        }
        init_op = init()
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(directory))
        for number, tags in enumerate(tag_sets):
            if number == 0:
                assets = v1.get_collection("asset_filepaths")
                builder.add_meta_graph_and_variables(
                    session, tags, signatures, assets_collection=assets, main_op=init_op
                )
            else:
                builder.add_meta_graph(tags, signatures)
        builder.save()
    return str(directory)


def test_in_a_graph_what_any_signature_needs_matters(tmp_path: pathlib.Path) -> None:
    model = save_graph(tmp_path / "model", {"default": mean_colour, "other": reads})
    report = trust.check_program(model, signature="other")
    assert report.forbidden == (ForbiddenOp("ReadFile", "", "reads files"),)
    assert "ReadFile (reads files)" in str(report.forbidden[0])
    assert forbidden(model, signature="default") == [("ReadFile", "reads files")]
    assert "ReadFile" not in trust.check_program(model, signature="default").ops


def test_a_graphs_init_op_is_run_by_loading(tmp_path: pathlib.Path) -> None:
    def init() -> tf.Operation:
        with tf.control_dependencies([tf.io.write_file(FILE, "x")]):
            return tf.no_op()

    model = save_graph(tmp_path / "model", {"default": mean_colour}, init)
    assert forbidden(model, signature="default") == [("WriteFile", "writes files")]


def test_a_graphs_table_may_read_an_asset(tmp_path: pathlib.Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")

    def look_up(images: tf.Tensor) -> tf.Tensor:
        filename = tf.constant(str(words))
        tf.compat.v1.add_to_collection("asset_filepaths", filename)
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                filename, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, -1
            ),
            -1,
        )
        return mean_colour(images) + tf.cast(table.lookup(tf.constant("b")), tf.float32)

    model = save_graph(tmp_path / "model", {"default": look_up}, tf.compat.v1.tables_initializer)
    assert forbidden(model) == []

    def forget(graph: Any) -> None:
        del graph.asset_file_def[:]
        graph.collection_def["saved_model_assets"].Clear()

    assert forbidden(edit(model, forget)) == [("InitializeTableFromTextFileV2", "reads files")]


def test_restoring_may_do_nothing_but_restore(tmp_path: pathlib.Path) -> None:
    def write_too(graph: Any) -> None:
        nodes = {node.name: node for node in graph.graph_def.node}
        graph.graph_def.node.add(name="more", op="WriteFile")
        nodes[graph.saver_def.restore_op_name].input.append("^more")

    model = save_graph(tmp_path / "model", {"default": mean_colour})
    assert forbidden(model) == []
    assert forbidden(edit(model, write_too)) == [("WriteFile", "writes files")]


def test_tags_choose_the_graph(tmp_path: pathlib.Path) -> None:
    model = save_graph(tmp_path / "model", {"default": reads}, tag_sets=[[], ["train"]])
    for tags in (None, [], ["train"]):
        assert forbidden(model, tags=tags) == [("ReadFile", "reads files")]
    with pytest.raises(UserError, match=r"tags \['gpu'\]; there is \[\], \['train'\]"):
        trust.check_program(model, tags=["gpu"])


# All ops of this TensorFlow

# What they call a file, path, prefix, pattern or stream is none.
HARMLESS = """
    CTCBeamSearchDecoder RegexFullMatch RegexReplace StaticRegexFullMatch StaticRegexReplace"""


def sounds_like_a_place(argument: str) -> bool:
    words = "file|path|dir$|address|url|prefix|pattern|region|output_stream|descriptor_source"
    return re.search(words, argument) is not None


def test_every_op_that_takes_a_path_or_an_address_is_known_here(tmp_path: pathlib.Path) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    from tensorflow.python.framework import op_def_registry

    proto = SavedModel()
    graph = proto.meta_graphs.add()
    suspects = set()
    for name in dir(tf.raw_ops):
        op = op_def_registry.get(name)
        if op and any(sounds_like_a_place(a.name) for a in [*op.input_arg, *op.attr]):
            suspects.add(name)
            node = graph.graph_def.node.add(name=name, op=name)
            for attribute in op.attr:
                if sounds_like_a_place(attribute.name):
                    node.attr[attribute.name].s = FILE.encode()
            graph.signature_def["all"].outputs[name].name = f"{name}:0"
    (tmp_path / "saved_model.pb").write_bytes(proto.SerializeToString())
    named = {op for op, _ in forbidden(str(tmp_path))}
    assert suspects - named == set(HARMLESS.split())


# Published models


def test_the_built_in_model_is_harmless() -> None:
    report = trust.check_program(builtin.exported("feature_vector"))
    assert report.forbidden == ()
    assert report.ops["Conv2D"] > 30


def test_keras_2_models_are_harmless(tmp_path: pathlib.Path) -> None:
    import tf_keras

    small = tf_keras.Sequential(
        [
            tf_keras.layers.Resizing(16, 16, input_shape=(None, None, 3)),
            tf_keras.layers.Rescaling(2.0, -1.0),
            tf_keras.layers.RandomFlip(),
            tf_keras.layers.Conv2D(4, 3),
            tf_keras.layers.BatchNormalization(),
            tf_keras.layers.GlobalAveragePooling2D(),
        ]
    )
    small.save(tmp_path / "small", save_format="tf")
    assert forbidden(str(tmp_path / "small")) == []
    assert forbidden(str(tmp_path / "small"), signature="serving_default") == []
    large = tf_keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3))
    large.export(tmp_path / "large")
    assert forbidden(str(tmp_path / "large")) == []


def keras_model(*layers: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input((16, 16, 3)), *layers])


def test_a_keras_3_export_is_harmless(tmp_path: pathlib.Path) -> None:
    import keras

    layers = [keras.layers.Rescaling(2.0, -1.0), keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
    keras_model(*layers).export(tmp_path / "model", verbose=False)
    assert forbidden(str(tmp_path / "model")) == []
    assert forbidden(str(tmp_path / "model"), signature="serving_default") == []


# Keras files


def test_a_keras_file_of_keras_layers_is_harmless(tmp_path: pathlib.Path) -> None:
    import keras

    path = str(tmp_path / "model.keras")
    layers = [
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.ReLU(),
        keras.layers.ReLU(),
    ]
    model = keras_model(*layers)
    model.compile("adam", "mse")
    model.save(path)
    report = trust.check_keras_file(path)
    trust.refuse_if_untrusted(path, report)
    assert dict(report.ops) == {"ReLU": 2, "InputLayer": 1, "Conv2D": 1}


def test_code_in_a_keras_file_is_named(tmp_path: pathlib.Path) -> None:
    import keras

    @keras.saving.register_keras_serializable(package="ours")
    class Scale(keras.layers.Layer):
        def call(self, images):
            return images * 2

    @keras.saving.register_keras_serializable(package="ours")
    def softer(x):
        return x / 2

    path = str(tmp_path / "model.keras")
    keras_model(
        keras.layers.Lambda(lambda x: x + 1, name="shift"),
        Scale(name="twice"),
        keras.layers.Activation(softer, name="half"),
    ).save(path)
    with pytest.raises(UserError) as info:
        trust.refuse_if_untrusted(path, trust.check_keras_file(path))
    for named in ("Lambda (in function shift: ", "Scale (in function twice", "softer (in function"):
        assert named in str(info.value)


def zipped(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "cannot be read"),
        (zipped(metadata_json="{}"), r"no config\.json in it"),
        (zipped(config_json="{"), r"config\.json is damaged"),
        (zipped(config_json="\xff" * 9), r"config\.json is damaged"),
        (zipped(config_json="[" * 10**6), r"config\.json is damaged"),
        (zipped(config_json=json.dumps({}))[:-9], "cannot be read"),
    ],
)
def test_a_damaged_keras_file_is_told(tmp_path: pathlib.Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^model {path}: {message}"):
        trust.check_keras_file(str(path))


# Damaged SavedModels


@pytest.mark.parametrize("damage", ["truncated", "garbage", "text", "empty", "absent", "directory"])
def test_a_damaged_saved_model_is_told(tmp_path: pathlib.Path, damage: str) -> None:
    model = pathlib.Path(saved(tmp_path / "model", mean_colour))
    file = model / "saved_model.pb"
    content = file.read_bytes()
    file.unlink()
    match damage:
        case "truncated":
            file.write_bytes(content[: len(content) // 2])
        case "garbage":
            file.write_bytes(np.random.default_rng(0).bytes(1000))
        case "text":
            file.write_bytes(b"<html>404</html>")
        case "empty":
            file.touch()
        case "directory":
            file.mkdir()
    with pytest.raises(UserError, match=f"^model {model}: ") as info:
        trust.check_program(str(model))
    assert "\n" not in str(info.value)


def test_a_reference_to_what_is_not_there_is_told(tmp_path: pathlib.Path) -> None:
    def break_reference(graph: Any) -> None:
        for child in graph.object_graph_def.nodes[0].children:
            child.node_id = 999 if child.local_name == "__call__" else child.node_id

    model = edit(saved(tmp_path / "model", mean_colour), break_reference)
    with pytest.raises(UserError, match="damaged"):
        trust.check_program(model)
