"""Finds what of a `.keras` file is not harmless, from its configuration and weights alone."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from typing import Any

from transforms.errors import Parameter, UserError
from transforms.models.keras_members import (
    CONFIG,
    METADATA,
    WEIGHTS,
    keras_config,
    keras_members,
    keras_version,
    keras_weights,
)
from transforms.models.trust.keras_classes import CLASSES, FUNCTIONS, VALUES
from transforms.models.trust.ops import Reason
from transforms.models.trust.report import ForbiddenOp, TrustReport
from transforms.models.trust.weights import foreign_data

_CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")


def check_keras_file(path: str) -> TrustReport:
    """Finds what of a `.keras` file is not harmless, before Keras opens it.

    That are classes and functions that are not known as those of image models, by their modules and
    names; weights that lie in other files; members that no such file has; and a file of tf_keras as
    a whole, which imports what it names.

    Raises:
      UserError: the file is no Keras 3 model, or damaged.
    """
    config, version = keras_config(path), keras_version(path)
    forbidden: set[ForbiddenOp] = set()
    counts: collections.Counter[str] = collections.Counter()
    if is_of_keras_2(version):
        what = f"the file format of tf_keras {version}"
        forbidden.add(ForbiddenOp(what, "", "runs code that cannot be checked"))
    for value, layer in _dictionaries(_as_opened(config)):
        if "class_name" not in value:
            continue
        if not isinstance(value["class_name"], str):
            raise UserError(f"{CONFIG} is damaged", subject=Parameter("model", path))
        counts[value["class_name"]] += value.get("module") == "keras.layers"
        name = _forbidden(value)
        if name:
            is_code = name in _CODE or not _is_of_keras(value.get("module"))
            reason: Reason = "runs Python" if is_code else "not known to be harmless"
            forbidden.add(ForbiddenOp(name, layer, reason))
    for name in keras_members(path):
        if name not in (CONFIG, METADATA, WEIGHTS):
            forbidden.add(ForbiddenOp(f"the file {name}", "", "not known to be harmless"))
    if not forbidden:
        forbidden.update(
            ForbiddenOp(what, "", "reads files") for what in foreign_data(path, keras_weights(path))
        )
    return TrustReport(tuple(sorted(forbidden)), dict((+counts).most_common()))


def is_of_keras_2(version: str) -> bool:
    """Whether tf_keras opens what this version of Keras wrote.

    >>> is_of_keras_2("2.21.0"), is_of_keras_2("3.15.1")
    (True, False)
    """
    return version.startswith("2.")


def _as_opened(config: Any) -> Any:
    """Without what the model was compiled with, which is left out where it is opened."""
    if isinstance(config, dict):
        return {key: value for key, value in config.items() if key != "compile_config"}
    return config


def _dictionaries(config: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """All dictionaries in a configuration, each with the name of the layer that it is of."""
    waiting: list[tuple[Iterator[Any], str]] = [(iter((config,)), "")]
    while waiting:
        values, layer = waiting[-1]
        value = next(values, waiting)
        if value is waiting:  # no more of them
            waiting.pop()
        elif isinstance(value, list):
            waiting.append((iter(value), layer))
        elif isinstance(value, dict):
            inner = value.get("config")
            if "class_name" in value and isinstance(inner, dict):
                layer = str(inner.get("name", layer))
            yield value, layer
            waiting.append((iter(value.values()), layer))


def _forbidden(value: Mapping[str, Any]) -> str | None:
    """The class or function of Keras's serialised object, if it is not known to be harmless."""
    name, module = value["class_name"], value.get("module")
    known = CLASSES
    registered: tuple[Any, ...] = (None, name)
    if name == "function":
        name, known = value.get("config"), FUNCTIONS
        registered = (None, "function", name)
    elif name in VALUES and module is None:
        return None
    # What is registered under a name goes before what the module has.
    is_known = (module, name) in known if _are_texts(module, name) else False
    return None if is_known and value.get("registered_name") in registered else str(name)


def _are_texts(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_of_keras(module: Any) -> bool:
    return isinstance(module, str) and module.split(".")[0] in ("keras", "builtins")
