"""What is told of the classes: by the command line, else by the model itself."""

from __future__ import annotations

import dataclasses

from pipeline.options.values import ClassOptions
from transforms.dataset.scores import Activation
from transforms.errors import Parameter, UserError, one_line
from transforms.models.described import DESCRIPTION, ModelDescription, read_description
from transforms.models.source import ModelSource

_GIVES = {"feature_vector": "feature vectors", "classification": "logits"}


@dataclasses.dataclass(frozen=True)
class ToldClasses:
    """What is told of the classes, besides the logits.

    Attributes:
      names: in the order of the logits; empty where nobody knows them.
      top_k: how many best classes.
      activation: what makes scores of the logits.
    """

    names: tuple[str, ...]
    top_k: int
    activation: Activation


def told_of_classes(options: ClassOptions, source: ModelSource, width: int) -> ToldClasses:
    """The names of the classes and their scores; a flag has the last word.

    Args:
      options: the flags.
      source: the model.
      width: the length of its vectors.

    Raises:
      UserError: there are more or fewer names than logits, they cannot be read, or the model says
        of itself that it is for another task.
    """
    described = read_description(source)
    refuse_other_task(source, described)
    names = _names(options, source, described, width)
    top_k = (5 if names else 0) if options.top_k is None else options.top_k
    activation = options.activation or (described.activation if described else "none")
    return ToldClasses(names, top_k, activation)


def refuse_other_task(source: ModelSource, described: ModelDescription | None) -> None:
    """Raises a UserError if a model says of itself that it is for another task than is asked."""
    if described is not None and described.task != source.task:
        raise UserError(
            f"gives {_GIVES[described.task]}, as it says of itself; give ",
            Parameter("task", described.task),
            subject=source.subject,
        )


def _names(
    options: ClassOptions, source: ModelSource, described: ModelDescription | None, classes: int
) -> tuple[str, ...]:
    if source.task != "classification":
        return ()
    path = options.names_file
    if path is None:
        names = described.labels if described else ()
        if names and len(names) != classes:
            raise UserError(
                f"names {len(names)} classes in its {DESCRIPTION}, but gives {classes} logits",
                subject=source.subject,
            )
        return names
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = tuple(line.strip() for line in file.read().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--labels {path}: cannot be read: {one_line(error)}") from error
    if len(names) != classes:
        raise UserError(
            f"--labels {path}: {len(names)} names, but the model gives {classes} logits; "
            "there must be one name a line, in the order of the classes"
        )
    return names
