"""What can go wrong with one image, and how it is told.

An image that cannot become a row becomes an `ErrorRow`, committed with its shard; nothing else
is lost with it. A mistake of the person at the terminal is a `UserError`: one line, no traceback.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

import pyarrow as pa

from transforms.refs import ImageRef
from transforms.storage.retries import is_transient

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


class UserError(ValueError):
    """An input, an option or the output directory is wrong; the message says what to do."""


class ImageError(Exception):
    """One image cannot be used. Subclasses name the reason; the message says it in one line."""


class UnusableInputError(ImageError):
    """Seen while listing the inputs: a duplicate or missing id, an unreadable directory."""


class EmptyImageError(ImageError):
    """The file or the record's image feature has no bytes."""


class NotAnImageError(ImageError):
    """The bytes begin like no image format that is known here."""


class UnsupportedImageError(ImageError):
    """An image, but of a format or variant that is not decoded here."""


class ImageTooLargeError(ImageError):
    """More bytes or pixels than `--max_file_bytes` or `--max_pixels` allow."""


class CorruptImageError(ImageError):
    """A known format, but truncated or damaged."""


class RecordError(ImageError):
    """A TFRecord that is damaged, is not a `tf.Example` or lacks a feature."""


class InferenceError(ImageError):
    """The model itself fails on this one image."""


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorRow:
    """One image that did not become a row: which, where in the pipeline, and why.

    `transient` says that reading failed, after some attempts, in a way that may pass: a timeout, a
    lost connection, a busy server.
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
    transient = stage == "read" and is_transient(error)
    name, message = type(error).__name__, one_line(error)
    return ErrorRow(ref.id, ref.uri, ref.version, stage, name, message, transient)


def one_line(error: BaseException) -> str:
    """An exception's message on one line, at most 500 characters, without TensorFlow's noise."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if text.startswith("Graph execution error:"):  # then where in the graph, then what happened
        paragraphs = text.split("\n\n")
        text = "\n".join(p for p in paragraphs if not p.startswith(_TENSORFLOW_TRACE))
    text = re.sub(r"\{\{function_node [^}]*\}\}|\[\[\{\{node [^}]*\}\}\]\]|\[Op:\w+\]", "", text)
    text = " ".join(text.split()) or type(error).__name__
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 1] + "…"


def error_table(rows: list[ErrorRow]) -> pa.Table:
    """Error rows as an Arrow table with `ERROR_SCHEMA`."""
    return pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=ERROR_SCHEMA)
