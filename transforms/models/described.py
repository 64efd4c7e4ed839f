"""What a model says of itself: its classes, what makes scores of its logits, its size of images.

It is one JSON object in the file `image_classifier.json` among a SavedModel's assets. TensorFlow
knows nothing of it: a model that is loaded, changed and saved again by others does not say what is
true no longer. Other files with the names of the classes are for people, and are not read.
What a publisher has written is data: no link is followed, and size, names and numbers have limits.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

from transforms.errors import UserError, one_line
from transforms.models import builtin
from transforms.models.source import ModelSource, Task
from transforms.storage.paths import UnusableFileError, read_unlinked

DESCRIPTION = "assets/image_classifier.json"
FORMAT = 1

_MOST_LABELS = 1_000_000
_MOST_BYTES = 2**25
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
    path = os.path.join(source.local_path(), DESCRIPTION)
    try:
        text = read_unlinked(path, _MOST_BYTES, directories=1).decode("utf-8")
        return _parsed(text)
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise _damaged(source, "it is no UTF-8") from error
    except UnusableFileError as error:
        if not os.path.lexists(path):  # a model of somebody else, whose `assets` is a link
            return None
        raise _damaged(source, error.problem) from error
    except (OSError, ValueError) as error:
        raise _damaged(source, one_line(error)) from error


def write_description(description: ModelDescription, directory: str) -> None:
    """Writes it into a SavedModel.

    Args:
      description: what the model is to say.
      directory: of the SavedModel.

    Raises:
      ValueError: a class's name is none.
      OSError: it cannot be written.
    """
    refuse_labels(description.labels)
    facts = {
        "format": FORMAT,
        "program": description.program,
        "task": description.task,
        "image_size": list(description.image_size),
        "activation": description.activation,
        "multi_label": description.is_multi_label,
        "labels": list(description.labels),
    }
    path = os.path.join(directory, DESCRIPTION)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def refuse_labels(labels: Sequence[str]) -> None:
    """Raises a ValueError that names what cannot be a class's name: it is one line of text.

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


def _damaged(source: ModelSource, problem: str) -> UserError:
    return UserError(
        f"{DESCRIPTION}, in which the model describes itself, cannot be used: {problem}; get the "
        "model anew, or take this file out of it",
        subject=source.subject,
    )


def _parsed(text: str) -> ModelDescription:
    """The description that a text is.

    Raises:
      ValueError: it is none.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    if "format" in found and found["format"] != FORMAT:
        raise ValueError(f"it is of another format than {FORMAT}, of a later version")
    for name, is_right in _KINDS.items():
        if name not in found:
            raise ValueError(f"{name} is missing")
        if not is_right(found[name]):
            raise ValueError(f"{name} is not as it should be")
    task, activation, labels = found["task"], found["activation"], found["labels"]
    is_classifier = task == "classification"
    if is_classifier is not (activation != "none") or is_classifier is not bool(labels):
        raise ValueError("task, activation and labels do not fit each other")
    if found["multi_label"] is not (activation == "sigmoid"):
        raise ValueError("activation and multi_label do not fit each other")
    refuse_labels(labels)
    height, width = found["image_size"]
    return ModelDescription(task, tuple(labels), activation, (height, width), found["program"])


def _is_line(found: Any) -> bool:
    return isinstance(found, str) and found.isprintable() and len(found) <= 200


def _is_size(found: Any) -> bool:
    return (
        isinstance(found, list)
        and len(found) == 2
        and all(type(side) is int and 1 <= side <= _LARGEST_SIDE for side in found)
    )


def _is_texts(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(text, str) for text in found)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "format": lambda found: type(found) is int,
    "program": _is_line,
    "task": lambda found: found in ("feature_vector", "classification"),
    "image_size": _is_size,
    "activation": lambda found: found in ("none", "softmax", "sigmoid"),
    "multi_label": lambda found: isinstance(found, bool),
    "labels": _is_texts,
}
