"""What `verify` takes from the record of a run: options that decide numbers, and nothing else.

Whoever may write into the output directory may write its record. So no model is taken from it but
the built-in or one on this machine whose files have the digest that is recorded, and never trust,
names of classes, options of Beam or a limit above its default: those are given on the command line.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.options import flags, model
from pipeline.options.arguments import own_parser
from transforms import storage
from transforms.errors import Message, Parameter, UserError
from transforms.images.spec import DEFAULT_MAX_FILE_BYTES, DEFAULT_MAX_PIXELS
from transforms.models import builtin, staging

_READ_BACK = (
    "tfrecord_image_key",
    "tfrecord_id_key",
    "keep",
    "label_from_parent",
    "version",
    "signature",
    "tags",
    "output_key",
    "model_args",
    "pool",
    "task",
    "image_size",
    "value_range",
    "model_layout",
    "engine",
    "precision",
    "min_cosine",
    "pixels",
    "decode",
    "top_k",
    "activation",
)

# What costs memory: as large as by default, or smaller.
_AT_MOST = {
    "max_pixels": DEFAULT_MAX_PIXELS,
    "max_file_bytes": DEFAULT_MAX_FILE_BYTES,
    "batch_size": 32,
}
_MOST_INPUT_PIXELS = 2**22

# Words with which a parser ends the process.
_HELP = re.compile(r"-(-help|h)")


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What is taken from a record.

    Attributes:
      words: options of run.
      problems: why nothing can be computed again without more on the command line.
      notes: what was left out that the command line may give.
      unknown: entries of the fingerprint that cannot be the same, as something was left out.
    """

    words: list[str]
    problems: list[Message]
    notes: list[str]
    unknown: frozenset[str]


def recorded_options(run: Mapping[str, Any], given: Sequence[str]) -> Recorded:
    """The options of a run that decide its numbers.

    Args:
      run: what was read back of it.
      given: options of run on the command line, which come after those that are taken.
    """
    typed = {word.partition("=")[0] for word in flags.as_beam_has_them(list(given))}
    try:
        options = _parsed(run["arguments"])
        height, width = model.image_size(options) or (0, 0)
    except (KeyError, UserError) as error:
        why = str(error) if isinstance(error, UserError) else "it tells no options"
        wrong = f"the options of the last run cannot be read back: {why}; nothing is computed again"
        return Recorded([], [Message((wrong,))], [], frozenset())
    found = vars(options)
    words = [word for name in _READ_BACK for word in _words(name, found[name])]
    notes = []
    for name, most in _AT_MOST.items():
        value = found[name]
        if isinstance(value, int) and value <= most:
            words += _words(name, value)
        elif name != "batch_size" and f"--{name}" not in typed:
            notes.append(
                f"--{name} {value} of the last run is above the default: give it to use it"
            )
    problems = []
    if height * width > _MOST_INPUT_PIXELS and "--image_size" not in typed:
        text = f"--image_size {height}x{width} of the last run is large: give it to use it"
        problems.append(Message((text,)))
    unknown: set[str] = set()
    if found["labels_file"] and "--labels_file" not in typed:
        notes.append("class names were not compared: give --labels FILE")
        unknown |= {"labels_sha256", "top_k"}
    if "--model" not in typed:
        try:
            words += _model_words(found["model"], run.get("model_sha256"), typed)
        except UserError as error:
            problems.append(Message((*error.pieces, "; give ", Parameter("model", found["model"]))))
    return Recorded(words, problems, notes, frozenset(unknown))


def _model_words(handle: str, sha256: str | None, typed: set[str]) -> list[str]:
    """The model of a run, without anything of it having been loaded.

    Raises:
      UserError: it has to be given on the command line.
    """
    if handle == builtin.NAME:
        return []
    words = [f"--model={handle}"]
    if "--model_sha256" in typed:
        return words
    is_here = storage.is_local(handle) and storage.exists(storage.absolute(handle))
    if not is_here or not sha256:
        raise UserError(
            "is taken from the record of a run only if it lies on this machine and the record has "
            "its digest",
            subject=Parameter("model", handle),
        )
    staging.stage(handle, sha256)
    return [*words, f"--model_sha256={sha256}"]


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """All options of run.

    Raises:
      UserError: one has a value that it cannot have.
    """
    words = [word for word in flags.as_beam_has_them(list(arguments)) if word != flags.DRY_RUN]
    if any(map(_HELP.match, words)) or words == ["--version"]:
        raise UserError("they ask for help")
    parsed, _ = own_parser().parse_known_args(words)
    return parsed


def _words(name: str, value: object) -> list[str]:
    if value is None or value is False:
        return []
    return [f"--{name}"] if value is True else [f"--{name}={value}"]
