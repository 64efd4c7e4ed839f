"""What a model says of itself: its classes, what makes scores of its logits, its size of images.

Two files among a SavedModel's assets, which TensorFlow's loader keeps when it saves a model again:
`image_classifier.json`, one JSON object, and `labels.txt`, the names of the classes, one a line in
the order of the logits. What lies elsewhere in the model's directory is for people and is not read.
What a publisher has written is data: no link is followed, and size, names and numbers have limits.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, Literal

from transforms.errors import UserError, one_line
from transforms.models import builtin
from transforms.models.source import ModelSource, Task
from transforms.storage.paths import UnusableFileError, read_unlinked

DESCRIPTION_NAME, LABELS_NAME = "image_classifier.json", "labels.txt"
ASSETS_DIRECTORY = "assets"  # of a SavedModel; TensorFlow's name
FORMAT = 1

_MOST_LABELS = 1_000_000
_MOST_LABELS_BYTES = 2**25
_MOST_DESCRIPTION_BYTES = 2**14
_LARGEST_SIDE = 2**15


@dataclasses.dataclass(frozen=True)
class ModelDescription:
    """What a model says of itself.

    Attributes:
      task: what it gives.
      labels: names of the classes in the order of its logits; none where it gives feature vectors.
      activation: what makes scores of the logits: softmax where an image is of one class, sigmoid
        where it may be of several; none where it gives feature vectors.
      image_size: height and width in pixels of the images that it was trained on.
      program: what has written it, with its version.
    """

    task: Task
    labels: tuple[str, ...]
    activation: Literal["none", "softmax", "sigmoid"]
    image_size: tuple[int, int]
    program: str

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may be of several classes, or of none."""
        return self.activation == "sigmoid"


def read_description(source: ModelSource) -> ModelDescription | None:
    """What a model says of itself; None: nothing.

    Raises:
      UserError: what it says cannot be read or is not as this program writes it; it names the file.
    """
    if source.is_builtin:
        return _of_builtin(source.task)
    if source.is_keras_file:
        return None
    text = _read(source, DESCRIPTION_NAME, _MOST_DESCRIPTION_BYTES)
    if text is None:
        return None
    try:
        found, count = _parsed(text)
    except ValueError as error:
        raise _damaged(source, DESCRIPTION_NAME, str(error)) from error
    if found.task == "feature_vector":
        return found
    listed = _read(source, LABELS_NAME, _MOST_LABELS_BYTES)
    if listed is None:
        raise _damaged(source, LABELS_NAME, "it is missing")
    labels = tuple(listed.removesuffix("\n").split("\n"))
    try:
        refuse_labels(labels)
    except ValueError as error:
        raise _damaged(source, LABELS_NAME, str(error)) from error
    if len(labels) != count:
        told = f"{len(labels)} names, but {DESCRIPTION_NAME} says {count}"
        raise _damaged(source, LABELS_NAME, told)
    return dataclasses.replace(found, labels=labels)


def write_description(description: ModelDescription, directory: str) -> list[str]:
    """Writes the files of a description into a directory; their paths, `image_classifier.json` last.

    Raises:
      ValueError: a class name is none.
      OSError: they cannot be written.
    """
    facts = {
        "format": FORMAT,
        "task": description.task,
        "labels": len(description.labels),
        "activation": description.activation,
        "multi_label": description.is_multi_label,
        "image_size": list(description.image_size),
        "program": description.program,
    }
    texts = {DESCRIPTION_NAME: json.dumps(facts, indent=2) + "\n"}
    if description.task == "classification":
        refuse_labels(description.labels)
        texts = {LABELS_NAME: "".join(f"{label}\n" for label in description.labels)} | texts
    paths = [os.path.join(directory, name) for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    return paths


def refuse_labels(labels: tuple[str, ...]) -> None:
    """Raises a ValueError that names what cannot be a class's name: one line, no control characters.

    >>> refuse_labels(("cat", "tabby\\ncat"))
    Traceback (most recent call last):
    ...
    ValueError: class 1 is called 'tabby\\ncat': a class's name is one line of text
    """
    if len(labels) > _MOST_LABELS:
        raise ValueError(f"{len(labels):,} classes; there may be {_MOST_LABELS:,}")
    for at, label in enumerate(labels):
        if not _is_name(label):
            raise ValueError(f"class {at} is called {label!r}: a class's name is one line of text")


def _is_name(label: str) -> bool:
    try:
        label.encode()
    except UnicodeEncodeError:  # of a folder whose name is no UTF-8
        return False
    is_control = any(ord(character) < 32 or 127 <= ord(character) < 160 for character in label)
    return bool(label.strip()) and label.splitlines() == [label] and not is_control


def _of_builtin(task: Task) -> ModelDescription:
    is_classifier = task == "classification"
    return ModelDescription(
        task=task,
        labels=builtin.class_names() if is_classifier else (),
        activation="softmax" if is_classifier else "none",
        image_size=builtin.IMAGE_SIZE,
        program=builtin.NAME,
    )


def _read(source: ModelSource, name: str, most: int) -> str | None:
    path = os.path.join(source.local_path(), ASSETS_DIRECTORY, name)
    try:
        return read_unlinked(path, most, directories=1).decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise _damaged(source, name, "it is no UTF-8") from error
    except UnusableFileError as error:
        if not os.path.lexists(path):  # a model of somebody else, whose `assets` is a link
            return None
        raise _damaged(source, name, error.problem) from error
    except OSError as error:
        raise _damaged(source, name, one_line(error)) from error


def _damaged(source: ModelSource, name: str, problem: str) -> UserError:
    return UserError(
        f"{ASSETS_DIRECTORY}/{name}, in which the model describes itself, cannot be used: "
        f"{problem}; take it out of the model, or get the model anew",
        subject=source.subject,
    )


def _parsed(text: str) -> tuple[ModelDescription, int]:
    """The description without its labels, and how many there must be.

    Raises:
      ValueError: the text is no such description.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    if found.get("format") != FORMAT:
        told = "it has no format" if "format" not in found else "it is of another format"
        raise ValueError(f"{told}; this program knows {FORMAT}")
    is_classifier = found.get("task") == "classification"
    activations = ("softmax", "sigmoid") if is_classifier else ("none",)
    size, labels = found.get("image_size"), found.get("labels")
    program = found.get("program")
    wanted = {
        "task": found.get("task") in ("feature_vector", "classification"),
        "activation": found.get("activation") in activations,
        "multi_label": found.get("multi_label") is (found.get("activation") == "sigmoid"),
        "image_size": isinstance(size, list) and len(size) == 2 and all(map(_is_side, size)),
        "labels": type(labels) is int and (1 if is_classifier else 0) <= labels <= _MOST_LABELS,
        "program": isinstance(program, str) and program.isprintable() and len(program) <= 200,
    }
    for name, is_right in wanted.items():
        if not is_right:
            raise ValueError(f"{name} is missing" if name not in found else f"{name} is wrong")
    facts: Any = found  # checked above
    description = ModelDescription(
        facts["task"], (), facts["activation"], (size[0], size[1]), facts["program"]
    )
    return description, facts["labels"]


def _is_side(found: Any) -> bool:
    return type(found) is int and 1 <= found <= _LARGEST_SIDE
