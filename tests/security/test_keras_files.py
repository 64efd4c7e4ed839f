"""A `.keras` file is made of what image models are made of, and of its own data alone.

Each of these ran code or read a file before, where it was opened without `trusted`.
"""

from __future__ import annotations

import io
import json
import pathlib
import zipfile
from typing import Any

import h5py
import numpy as np
import pytest

from tests.helpers.limits import within_limits
from transforms.errors import UserError
from transforms.models import trust

POLICY = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}
INPUT = {
    "module": "keras.layers",
    "class_name": "InputLayer",
    "config": {"batch_shape": [None, 8, 8, 3], "dtype": "float32", "name": "images"},
    "registered_name": None,
    "name": "images",
    "inbound_nodes": [],
}


def layer(module: str | None, name: str, config: Any, **more: Any) -> dict[str, Any]:
    """A layer of a configuration as Keras 3 writes it."""
    return {"module": module, "class_name": name, "config": config, "registered_name": None, **more}


def model_of(*layers: Any) -> dict[str, Any]:
    config = {"name": "model", "dtype": POLICY, "layers": [INPUT, *layers]}
    return layer("keras", "Sequential", config, compile_config={"optimizer": "adam"})


def keras_file(
    path: pathlib.Path,
    config: Any,
    version: str = "3.15.1",
    weights: bytes | None = None,
    **members: bytes,
) -> str:
    if weights is None:
        buffer = io.BytesIO()
        h5py.File(buffer, "w").close()
        weights = buffer.getvalue()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", config if isinstance(config, bytes) else json.dumps(config))
        archive.writestr("model.weights.h5", weights)
        for name, content in members.items():
            archive.writestr(name, content)
    return str(path)


def named(path: str) -> list[str]:
    """What is not harmless in a file, found within limits and without Keras."""
    return [str(op) for op in within_limits(trust.check_keras_file, path).forbidden]


def test_layers_of_image_models_are_harmless(tmp_path):
    dense = layer("keras.layers", "Dense", {"name": "dense", "units": 2, "activation": "relu"})
    function = layer("builtins", "function", "gelu", registered_name="function")
    activation = layer("keras.layers", "Activation", {"name": "a", "activation": function})
    assert named(keras_file(tmp_path / "m.keras", model_of(dense, activation))) == []


CUSTOM = {
    "code in a layer": (layer("keras.layers", "Lambda", {"name": "x"}), "Lambda"),
    "code as a function": (
        layer("keras.layers", "Activation", {"name": "x", "activation": {
            "class_name": "__lambda__", "config": {"code": "4wAA"}}}),
        "__lambda__",
    ),
    "a SavedModel as a layer": (layer("keras.layers", "TFSMLayer", {"name": "x"}), "TFSMLayer"),
    "a SavedModel as a function in an operation": (
        layer(
            "keras.src.ops.core",
            "Map",
            {"name": "x", "function": layer("keras.layers", "function", "TFSMLayer")},
        ),
        "TFSMLayer",
    ),
    "a SavedModel in the place of an activation": (
        layer("keras.layers", "Dense", {"name": "x", "activation": {
            "module": "keras.layers", "class_name": "TFSMLayer",
            "config": {"filepath": "/nowhere", "call_endpoint": "serve"}}}),
        "TFSMLayer",
    ),
    "a vocabulary that is a path": (
        layer("keras.layers", "StringLookup", {"name": "x", "vocabulary": "/etc/passwd"}),
        "StringLookup",
    ),
    "a layer of the older format, which has no module": (
        {"class_name": "Dense", "config": {"name": "x", "units": 2}},
        "Dense",
    ),
    "a known class of another module": (layer("os", "Dense", {"name": "x"}), "Dense"),
    "a known class, registered under another name": (
        layer("keras.layers", "Dense", {"name": "x"}, registered_name="ours>Dense"),
        "Dense",
    ),
    "a function of Keras that is no activation": (
        layer("keras.layers", "Dense", {"name": "x", "activation": layer(
            "keras.utils", "function", "get_file", registered_name="get_file")}),
        "get_file",
    ),
    "a type of TensorFlow": (
        layer("keras.layers", "Dense", {"name": "x", "units": {
            "class_name": "__typespec__", "spec_name": "x", "module": "tensorflow",
            "config": [], "registered_name": None}}),
        "__typespec__",
    ),
}  # fmt: skip


@pytest.mark.parametrize("config", CUSTOM)
def test_whatever_is_not_known_is_named(tmp_path, config):
    value, name = CUSTOM[config]
    said = named(keras_file(tmp_path / "m.keras", model_of(value)))
    assert any(op.startswith(f"{name} (in function x: ") for op in said)


def test_what_a_submodel_was_compiled_with_is_looked_at(tmp_path):
    loss = layer("keras.layers", "TFSMLayer", {})
    inner = model_of()
    inner["compile_config"] = {"optimizer": layer("keras.optimizers", "Adam", {}), "loss": loss}
    outer = model_of(inner)
    outer["compile_config"] = {"loss": layer(None, "own_loss", {})}  # it is not opened
    said = named(keras_file(tmp_path / "m.keras", outer))
    assert [op.split(" ")[0] for op in said] == ["TFSMLayer"]


def test_a_file_of_tf_keras_needs_trust(tmp_path):
    """It opens `keras.src.…` as `tf_keras.src.…`: TFOpLambda there calls any function it names."""
    harmless = layer("keras.layers", "Dense", {"name": "x", "units": 2})
    [said] = named(keras_file(tmp_path / "m.keras", model_of(harmless), "2.15.0"))
    assert said == "the file format of tf_keras 2.15.0 (runs code that cannot be checked)"


def test_a_member_that_no_model_has_is_named(tmp_path):
    [said] = named(keras_file(tmp_path / "m.keras", model_of(), **{"assets/vocabulary.txt": b"a"}))
    assert said.startswith("the file assets/vocabulary.txt (")


# Weights


def write_external_link(file: h5py.File, secret: str) -> None:
    file["layers/dense/vars/0"] = h5py.ExternalLink(secret, "/0")


def write_soft_link(file: h5py.File, secret: str) -> None:
    file["layers/dense/vars/0"] = h5py.SoftLink("/elsewhere")


def write_external_data(file: h5py.File, secret: str) -> None:
    file.create_dataset("layers/dense/vars/0", (4,), np.uint8, external=[(secret, 0, 4)])


def write_virtual_data(file: h5py.File, secret: str) -> None:
    layout = h5py.VirtualLayout((4,), np.uint8)
    layout[:] = h5py.VirtualSource(secret, "0", (4,), np.uint8)
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def write_unknown_filter(file: h5py.File, secret: str) -> None:
    """HDF5 loads a library for it."""
    file.create_dataset(
        "layers/dense/vars/0",
        (4,),
        np.uint8,
        chunks=(4,),
        compression=32015,
        allow_unknown_filter=True,
    )


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (write_external_link, "ExternalLink /layers/dense/vars/0"),
        (write_soft_link, "SoftLink /layers/dense/vars/0"),
        (write_external_data, "external data /layers/dense/vars/0"),
        (write_virtual_data, "virtual data /layers/dense/vars/0"),
        (write_unknown_filter, "HDF5 filter 32015 /layers/dense/vars/0"),
    ],
)
def test_weights_lie_in_the_file_itself(tmp_path, write, said):
    (tmp_path / "secret").write_bytes(b"root")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        write(file, str(tmp_path / "secret"))
    weights = (tmp_path / "weights.h5").read_bytes()
    assert named(keras_file(tmp_path / "m.keras", model_of(), weights=weights)) == [
        f"{said} (reads files)"
    ]


def test_groups_that_contain_themselves_come_to_an_end(tmp_path):
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["a/b"] = file.create_group("layers")
        file["layers/again"] = file["a"]
    weights = (tmp_path / "weights.h5").read_bytes()
    assert named(keras_file(tmp_path / "m.keras", model_of(), weights=weights)) == []


@pytest.mark.parametrize("weights", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(2000)])
def test_damaged_weights_are_told(tmp_path, weights):
    path = keras_file(tmp_path / "m.keras", model_of(), weights=weights)
    with pytest.raises(UserError, match=r"model\.weights\.h5 is damaged"):
        named(path)


# Limits


@pytest.mark.parametrize(
    "config",
    [b"[" + b"{}," * 2**23 + b"{}]", b"[" * 2**20, b'{"a":' * 2**16],
    ids=["wide", "deep", "d"],
)
def test_a_small_file_with_a_large_configuration_is_refused(tmp_path, config):
    """255 kB of config.json took 13 GB."""
    path = keras_file(tmp_path / "m.keras", config)
    with pytest.raises(
        UserError, match=r"config\.json (is larger than|is damaged|holds more than)"
    ):
        within_limits(trust.check_keras_file, path, more_bytes=2**28, seconds=20)


def test_a_large_metadata_is_refused(tmp_path):
    path = keras_file(tmp_path / "m.keras", model_of(), version="3" * 2**22)
    with pytest.raises(UserError, match=r"metadata\.json is larger than"):
        named(path)
