"""What lies in a `.keras` file, a zip archive: looked at before Keras unpacks and parses all of it.

A kilobyte of a zip archive can unpack to a megabyte, and a megabyte of JSON can take a hundred as
Python objects. So both are counted first.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from typing import Any

from transforms.errors import Parameter, UserError, one_line
from transforms.models.archives import DEFAULT_LIMITS

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

MAX_JSON_BYTES = {CONFIG: 16 * 2**20, METADATA: 64 * 2**10}
# Lists, objects and what they hold; NASNetLarge has 60,000.
MAX_JSON_VALUES = 1_000_000
MAX_MEMBERS = 1000

# Those that Keras writes; others unpack a small piece to gigabytes at a time.
# What `zipfile` raises of what is no archive, or not a whole one: a name in a member's own header
# that is no UTF-8 is a ValueError.
_DAMAGED = (
    *(OSError, EOFError, ValueError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)

_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def keras_config(path: str, subject: Parameter | None = None) -> Any:
    """The configuration of a `.keras` file's model.

    Args:
      path: of the `.keras` file.
      subject: of the error; None: the model at `path`.

    Raises:
      UserError: the file is no Keras 3 model or damaged, or says which limit it is beyond.
    """
    return read_json(path, CONFIG, subject or Parameter("model", path))


def keras_version(path: str, subject: Parameter | None = None) -> str:
    """The version of Keras that wrote a `.keras` file: the Keras that opens it goes by that.

    Args:
      path: of the `.keras` file.
      subject: of the error; None: the model at `path`.

    Raises:
      UserError: as `keras_config`.
    """
    subject = subject or Parameter("model", path)
    metadata = read_json(path, METADATA, subject)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    if not isinstance(version, str):
        raise UserError(f"{METADATA} is damaged: it has no keras_version", subject=subject)
    return version


def keras_members(path: str) -> list[str]:
    """The names of a `.keras` file's members.

    Raises:
      UserError: as `check_members`.
    """
    subject = Parameter("model", path)
    check_members(path, subject)
    with _opened(path, subject) as archive:
        return archive.namelist()


def keras_weights(path: str) -> io.BytesIO:
    """The HDF5 file with the weights, in memory, as Keras reads it.

    Raises:
      UserError: as `check_members`.
    """
    subject = Parameter("model", path)
    check_members(path, subject)
    most = DEFAULT_LIMITS.unpacked_bytes(os.path.getsize(path))
    return io.BytesIO(_member(path, WEIGHTS, most, subject))


def check_members(path: str, subject: Parameter) -> None:
    """Refuses a file that unpacks to more than a model does.

    Args:
      path: of the `.keras` file.
      subject: of the error.

    Raises:
      UserError: it is no zip archive, or says which limit it is beyond.
    """
    with _opened(path, subject) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise UserError(f"more than {MAX_MEMBERS:,} files in it", subject=subject)
        stored = sum(member.compress_size for member in members)
        unpacked, most = sum(m.file_size for m in members), DEFAULT_LIMITS.unpacked_bytes(stored)
        if unpacked > most:
            raise UserError(
                f"unpacks to {unpacked:,} bytes, more than {most:,}, as an archive does that is "
                "meant to fill the disk",
                subject=subject,
            )
        for member in members:
            if member.compress_type not in _PACKED:
                raise UserError(
                    f"{member.filename[:100]!r} in it is packed as no Keras packs", subject=subject
                )
            most = MAX_JSON_BYTES.get(member.filename, unpacked)
            if member.file_size > most:
                raise _too_large(member.filename, most, subject)


def read_json(path: str, name: str, subject: Parameter) -> Any:
    """What a JSON file in a `.keras` file says.

    Raises:
      UserError: it is not there or damaged, or says which limit it is beyond.
    """
    check_members(path, subject)
    text = _member(path, name, MAX_JSON_BYTES[name], subject)
    if sum(map(text.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise UserError(
            f"its {name} holds more than {MAX_JSON_VALUES:,} values, too many for a model's",
            subject=subject,
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is damaged: {one_line(error)}", subject=subject) from error


def _member(path: str, name: str, most: int, subject: Parameter) -> bytes:
    with _opened(path, subject) as archive:
        try:
            with archive.open(name) as file:
                content = file.read(most + 1)
        except KeyError:
            raise UserError(f"no {name} in it; it is no Keras 3 model", subject=subject) from None
        except _DAMAGED as error:
            raise UserError(f"cannot be read: {one_line(error)}", subject=subject) from error
    if len(content) > most:
        raise _too_large(name, most, subject)
    return content


def _too_large(name: str, most: int, subject: Parameter) -> UserError:
    return UserError(
        f"its {name} is larger than {most:,} bytes, which is too large for a model's",
        subject=subject,
    )


def _opened(path: str, subject: Parameter) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise UserError(f"cannot be read: {one_line(error)}", subject=subject) from error
