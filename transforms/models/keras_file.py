"""A `.keras` file, opened with the Keras that wrote it; or one line that says what it lacks."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

from transforms.errors import Parameter, UserError, one_line
from transforms.models import trust
from transforms.models.keras_members import keras_config, keras_version
from transforms.models.source import ModelSource

_OF_KERAS = ("keras", "tf_keras", "builtins")


def open_keras_file(source: ModelSource) -> tuple[Any, str]:
    """The model, and the version of Keras that wrote it.

    Raises:
      UserError: it is damaged, not trusted, needs Python classes that are not here, has no input
        yet, or `source` asks for what no `.keras` file has.
    """
    path = source.local_path()
    given = {"signature": source.signature, "tags": source.tags, "arguments": source.arguments}
    for name in (name for name, value in given.items() if value):
        raise UserError(
            f"{source.name}: a .keras file has none; leave it out", subject=Parameter(name)
        )
    if not source.trusted:
        report = trust.check_keras_file(path)
        if report.forbidden:
            refuse_missing_classes(source)
        trust.refuse_if_untrusted(source.name, report)
    keras_config(path, source.subject)  # which Keras will parse
    version = keras_version(path, source.subject)
    try:
        keras = importlib.import_module("tf_keras" if trust.is_of_keras_2(version) else "keras")
        model = keras.models.load_model(path, compile=False, safe_mode=not source.trusted)
    except Exception as error:  # a damaged file raises anything
        _refuse_classes(source, _is_of_keras)
        raise UserError(f"cannot be loaded: {one_line(error)}", subject=source.subject) from error
    if not _inputs(model):
        raise UserError(
            "was saved before it knew the shape of its input: give it one (as its first layer, "
            "keras.Input((H, W, 3)), or a call on a batch of images), and save it again or use "
            "model.export()",
            subject=source.subject,
        )
    return model, version


def _inputs(model: Any) -> list[Any]:
    try:
        return list(model.inputs or ())
    except (AttributeError, ValueError):  # Keras 3's word for none yet
        return []


def refuse_missing_classes(source: ModelSource) -> None:
    """Raises a UserError that names the Python classes that a file needs and that are not here."""
    _refuse_classes(source, _is_here)


def _refuse_classes(source: ModelSource, is_here: Callable[[Any], bool]) -> None:
    """Raises a UserError that names the Python classes that a file needs and that are not here.

    Args:
      source: the model.
      is_here: whether a class of this module can be had.
    """
    try:
        config = keras_config(source.local_path(), source.subject)
    except UserError:
        return  # what is wrong with it is told elsewhere
    missing = sorted({name for name, module in _classes(config) if not is_here(module)})
    if missing:
        what = "class" if len(missing) == 1 else "classes"
        raise UserError(
            f"needs the Python {what} {', '.join(missing)}, which a .keras file does not hold; "
            "save it with model.export(), as a SavedModel, which needs none",
            subject=source.subject,
        )


def _classes(config: Any) -> Iterator[tuple[str, Any]]:
    """Name and module of each class in a model's configuration."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            name = value.get("class_name")
            is_class = isinstance(name, str) and "registered_name" in value
            if is_class and not str(name).startswith("__"):
                yield str(name), value.get("module")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _is_of_keras(module: Any) -> bool:
    return module is not None and str(module).split(".")[0] in _OF_KERAS


def _is_here(module: Any) -> bool:
    package = str(module).split(".")[0]
    if module is None or package == "__main__" or not package.isidentifier():
        return False
    return _is_of_keras(module) or importlib.util.find_spec(package) is not None
