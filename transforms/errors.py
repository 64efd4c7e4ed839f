"""What can go wrong with one image, and how it is told.

An image that cannot become a row becomes an `ErrorRow`, committed with its shard; nothing else
is lost with it. What whoever calls this library can put right is a `UserError`: one line, no
traceback. It speaks of the library's parameters; a program with other names for them tells those.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import json
import os
import re
from collections.abc import Callable
from typing import Any, Literal

import pyarrow as pa

from transforms.refs import ImageRef
from transforms.storage.causes import is_transient
from transforms.storage.secrets import masked

Stage = Literal["read", "decode", "infer"]

ERROR_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("error_type", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("transient", pa.bool_(), nullable=False),
    ]
)

MAX_MESSAGE_LENGTH = 500

_TENSORFLOW_TRACE = ("Graph execution error:", "Detected at node", "  File ")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of this library of which a message speaks, perhaps with a value.

    Attributes:
      name: as in this library: `pool` of a `ModelSource`, `max_pixels` of an `ImageSpec`, ….
      value: None where the message means whatever value it has.

    >>> f"{Parameter('pool', 'mean')}; {Parameter('trusted', True)}; {Parameter('output_key')}"
    "pool='mean'; trusted=True; output_key"
    """

    name: str
    value: str | int | float | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value!r}"

    def as_subject(self) -> str:
        """What stands before the colon.

        >>> Parameter("model", "my/model").as_subject()
        'model my/model'
        """
        return self.name if self.value is None else f"{self.name} {self.value}"


Piece = str | Parameter
Subject = Parameter | tuple[Parameter, ...] | str


@dataclasses.dataclass(frozen=True)
class Message:
    """A text that speaks of parameters: as this library names them, or as a program does.

    >>> message = Message(("give ", Parameter("engine", "tensorflow")))
    >>> str(message), message.told(lambda parameter: f"the {parameter.name} {parameter.value}")
    ("give engine='tensorflow'", 'give the engine tensorflow')
    """

    pieces: tuple[Piece, ...]

    def __str__(self) -> str:
        return self.told(str)

    def told(self, name_of: Callable[[Parameter], str]) -> str:
        """The text, with parameters as `name_of` has them."""
        return "".join(p if isinstance(p, str) else name_of(p) for p in self.pieces)


_NOTE = "its pieces: "


def noted(text: str) -> dict[str, Message]:
    """The messages of `UserError`s whose tracebacks are in a text, by how this library tells them.

    >>> error = UserError("give ", Parameter("engine", "openvino"), subject="a.png")
    >>> told = "\\n".join(["Traceback", *error.__notes__])
    >>> noted(told)[str(error)].told(lambda parameter: f"the {parameter.name}")
    'a.png: give the engine'
    """
    messages = {}
    for line in text.splitlines():
        if line.startswith(_NOTE):
            with contextlib.suppress(ValueError):  # it was cut
                told, pieces = json.loads(line.removeprefix(_NOTE))
                messages[told] = Message(
                    tuple(p if isinstance(p, str) else Parameter(*p) for p in pieces)
                )
    return messages


class UserError(ValueError):
    """An input, a parameter or the output directory is wrong; the message says what to do.

    It tells no secret of a URL.

    Args:
      pieces: the message without its subject: text, and the parameters that it speaks of.
      subject: what it is about: a parameter, several that are wrong together, or a file.
      remedy: the parameter that puts it right, where one does.

    >>> error = UserError("no such output", subject=Parameter("output_key", "logits"))
    >>> str(error), str(error.message)
    ('output_key logits: no such output', 'no such output')
    >>> error.told(lambda parameter: f"my {parameter.name} {parameter.value!r}")
    "my output_key 'logits': no such output"
    """

    def __init__(
        self, *pieces: Piece, subject: Subject | None = None, remedy: Parameter | None = None
    ):
        self.message = Message(tuple(map(_masked_piece, pieces)))
        if isinstance(subject, tuple):
            self.subject: Subject | None = tuple(map(_masked_parameter, subject))
        else:
            self.subject = None if subject is None else _masked_piece(subject)
        self.remedy = remedy
        start = " ".join(p if isinstance(p, str) else p.as_subject() for p in self._subjects())
        # One text, as that is what Beam keeps of an exception in a worker.
        super().__init__(f"{start}: {self.message}" if start else str(self.message))
        if any(isinstance(piece, Parameter) for piece in self.pieces):
            # For a program that has other names for parameters, and gets no more than a traceback.
            noted_pieces = [p if isinstance(p, str) else (p.name, p.value) for p in self.pieces]
            self.add_note(_NOTE + json.dumps([str(self), noted_pieces], default=str))

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = functools.partial(
            type(self), *self.message.pieces, subject=self.subject, remedy=self.remedy
        )
        return rebuild, ()

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The message with its subject, as a part of other messages."""
        start: list[Piece] = []
        for subject in self._subjects():
            start += [" ", subject] if start else [subject]
        return (*start, ": ", *self.message.pieces) if start else self.message.pieces

    def told(self, name_of: Callable[[Parameter], str]) -> str:
        """The message with its subject, with parameters as `name_of` has them."""
        return Message(self.pieces).told(name_of)

    def _subjects(self) -> tuple[Piece, ...]:
        if self.subject is None:
            return ()
        return self.subject if isinstance(self.subject, tuple) else (self.subject,)


def _masked_piece(piece: Piece) -> Piece:
    return masked(piece) if isinstance(piece, str) else _masked_parameter(piece)


def _masked_parameter(parameter: Parameter) -> Parameter:
    if not isinstance(parameter.value, str):
        return parameter
    return dataclasses.replace(parameter, value=masked(parameter.value))


class ImageError(Exception):
    """One image cannot be used. Subclasses name the reason; the message says it in one line."""


class UnusableInputError(ImageError):
    """Seen while listing the inputs: a duplicate or missing id, an unreadable directory."""


class InputChangedError(ImageError):
    """The file changed while it was read, or ended before its size: reading it again may work."""

    def __init__(self, message: str):
        super().__init__(message)
        self.__cause__ = OSError(errno.ESTALE, os.strerror(errno.ESTALE))


class EmptyImageError(ImageError):
    """The file or the record's image feature has no bytes."""


class NotAnImageError(ImageError):
    """The bytes begin like no image format that is known here."""


class UnsupportedImageError(ImageError):
    """An image, but of a format or variant that is not decoded here."""


class ImageTooLargeError(ImageError):
    """More bytes or pixels than `max_file_bytes` or `max_pixels` of the `ImageSpec` allow."""


class CorruptImageError(ImageError):
    """A known format, but truncated or damaged."""


class RecordError(ImageError):
    """A TFRecord that is damaged, is not a `tf.Example` or lacks a feature."""


class InferenceError(ImageError):
    """The model itself fails on this one image."""


class InfiniteAnswerError(InferenceError):
    """The model answers infinity to this image: what it computes overflows its precision."""


# Of what was read, and not that it could not be read.
_ABOUT_CONTENT = frozenset(
    kind.__name__ for kind in (EmptyImageError, ImageTooLargeError, RecordError)
)


def was_read(stage: str, error_type: str) -> bool:
    """Whether an error row is of an image whose bytes were seen.

    >>> was_read("decode", "CorruptImageError"), was_read("read", "PermissionError")
    (True, False)
    """
    return stage != "read" or error_type in _ABOUT_CONTENT


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorRow:
    """One image that did not become a row: which, where in the pipeline, and why.

    `transient` says that reading failed, after some attempts, in a way that may pass, as the table
    in `transforms.storage.causes` has it: a timeout, a lost connection, a busy server, expired
    credentials, no memory or no file handle left.
    """

    id: str
    uri: str
    version: str
    stage: Stage
    error_type: str
    message: str
    transient: bool = False


def error_row(ref: ImageRef, stage: Stage, error: BaseException) -> ErrorRow:
    """The error row for `ref`, with the message on one line.

    >>> ref = ImageRef(id="a.jpg", uri="a.jpg", version="1")
    >>> error_row(ref, "decode", CorruptImageError("truncated\\nJPEG")).message
    'truncated JPEG'
    """
    passes = stage == "read" or isinstance(error, MemoryError)
    transient = passes and is_transient(error)
    name, message = type(error).__name__, one_line(error)
    return ErrorRow(ref.id, ref.uri, ref.version, stage, name, message, transient)


def explained(error: Exception) -> tuple[Piece, ...]:
    """What went wrong, as a part of another message, which keeps the parameters it speaks of."""
    return error.pieces if isinstance(error, UserError) else (one_line(error),)


def one_line(error: BaseException) -> str:
    """An exception's message in 500 characters at most: no TensorFlow's noise, no URL's secret."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if text.startswith("Graph execution error:"):  # then where in the graph, then what happened
        paragraphs = text.split("\n\n")
        text = "\n".join(p for p in paragraphs if not p.startswith(_TENSORFLOW_TRACE))
    text = re.sub(r"\{\{function_node [^}]*\}\}|\[\[\{\{node [^}]*\}\}\]\]|\[Op:\w+\]", "", text)
    text = " ".join(text.split()) or type(error).__name__
    text = masked(text.encode("utf-8", "backslashreplace").decode())
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 1] + "…"


def error_table(rows: list[ErrorRow]) -> pa.Table:
    """Error rows as an Arrow table with `ERROR_SCHEMA`."""
    return pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=ERROR_SCHEMA)
