"""The members of a `.keras` file, which is a ZIP archive, read within limits."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from transforms.errors import Parameter, UserError, one_line
from transforms.models.archives import DEFAULT_LIMITS

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

_MAX_JSON_BYTES = {CONFIG: 16 * 2**20, METADATA: 64 * 2**10}


def keras_config(path: str) -> Any:
    """The configuration of a `.keras` file's model.

    Raises:
      UserError: the file is no Keras 3 model, or damaged.
    """
    return _json_member(path, CONFIG)


def keras_version(path: str) -> str:
    """The version of Keras that wrote a `.keras` file: the Keras that opens it goes by that.

    Raises:
      UserError: the file is no Keras 3 model, or damaged.
    """
    metadata = _json_member(path, METADATA)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    if not isinstance(version, str):
        subject = Parameter("model", path)
        raise UserError("metadata.json is damaged: it has no keras_version", subject=subject)
    return version


def keras_members(path: str) -> list[str]:
    """The names of a `.keras` file's members.

    Raises:
      UserError: it is damaged.
    """
    with _opened(path) as archive:
        return archive.namelist()


def keras_weights(path: str) -> io.BytesIO:
    """The HDF5 file with the weights, in memory, as Keras reads it.

    Raises:
      UserError: it is damaged, or larger than such a file unpacks to.
    """
    limit = DEFAULT_LIMITS.unpacked_bytes(os.path.getsize(path))
    return io.BytesIO(_member(path, WEIGHTS, limit))


def _json_member(path: str, name: str) -> Any:
    try:
        return json.loads(_member(path, name, _MAX_JSON_BYTES[name]))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        subject = Parameter("model", path)
        raise UserError(f"{name} is damaged: {one_line(error)}", subject=subject) from error


def _member(path: str, name: str, limit: int) -> bytes:
    subject = Parameter("model", path)
    with _opened(path) as archive:
        if name not in archive.namelist():
            raise UserError(f"no {name} in it; it is no Keras 3 model", subject=subject)
        with archive.open(name) as file:
            content = file.read(limit + 1)
    if len(content) > limit:
        raise UserError(
            f"its {name} is larger than {limit:,} bytes, which is too large for a model's",
            subject=subject,
        )
    return content


@contextlib.contextmanager
def _opened(path: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        subject = Parameter("model", path)
        raise UserError(f"cannot be read: {one_line(error)}", subject=subject) from error
