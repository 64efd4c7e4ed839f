"""A model of this machine for others: where each of them gets it, and the digest that it checks.

What is at a URI they stage from there. What is here only is uploaded once, as an archive that is
named by its digest, to where they can read it; or its path travels, where they see the same files.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import shutil
from collections.abc import Callable

from transforms import storage
from transforms.errors import UserError
from transforms.models import archives, builtin, staging
from transforms.models.source import ModelSource, files_sha256


def is_here_only(handle: str) -> bool:
    """Whether the model that a handle means can be had on this machine alone.

    >>> [is_here_only(handle) for handle in ("my_model/", "gs://hub/m.tar.gz", builtin.NAME)]
    [True, False, False]
    """
    return handle != builtin.NAME and (
        storage.is_local(handle) or handle.lower().startswith(("kaggle://", "file:"))
    )


def for_other_machines(source: ModelSource, location: str | None) -> ModelSource:
    """The model as what travels to other machines: by URI and digest, and without a path of here.

    Args:
      source: the model, staged on this machine.
      location: directory for uploads, on any filesystem that they see; None: they see the files of
        this machine under the same paths.

    Raises:
      UserError: the model changes while it is read, or another file is where it is to be.
      OSError: it cannot be uploaded.
    """
    if source.is_builtin:
        return source
    if not is_here_only(source.name):
        return dataclasses.replace(source, path=None)
    given = storage.absolute(source.name)
    path = given if os.path.exists(given) else source.local_path()  # Kaggle's, where it is
    if location is None:
        digest = source.sha256 if staging.is_archive(path) else files_sha256(source)
        return dataclasses.replace(source, name=path, path=None, sha256=digest)
    if staging.is_archive(path):
        assert source.sha256 is not None
        suffix = next(s for s in staging.ARCHIVE_SUFFIXES if path.lower().endswith(s))
        size, digest = os.path.getsize(path), source.sha256
        write: Callable[[str], object] = functools.partial(shutil.copyfile, path)
    else:
        suffix, write = ".tar", functools.partial(_write_archive, path)
        measured = _Measured()
        archives.pack(path, measured)
        size, digest = measured.size, measured.digest.hexdigest()
    uri = storage.join(storage.absolute(location), f"sha256-{digest}{suffix}")
    _upload_once(source, uri, size, digest, write)
    return dataclasses.replace(source, name=uri, path=None, sha256=digest)


def _upload_once(
    source: ModelSource, uri: str, size: int, digest: str, write: Callable[[str], object]
) -> None:
    there = storage.find(uri)
    if there is not None and there.size != size:
        raise UserError(
            f"{uri} has {there.size:,} bytes and not the {size:,} of the model: delete it; it is "
            "uploaded again",
            subject=source.subject,
        )
    if there is not None:
        return
    pending = storage.PendingFile(uri)
    try:
        write(pending.local_path)
        if storage.checksum(pending.local_path) != f"sha256:{digest}":
            raise UserError("has changed while it was read: start again", subject=source.subject)
        pending.commit()  # whoever was first has uploaded the same
    finally:
        pending.discard()


def _write_archive(path: str, target: str) -> None:
    with open(target, "wb") as file:
        archives.pack(path, file)


class _Measured:
    """A file that is only counted."""

    def __init__(self) -> None:
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.digest.update(data)
        return len(data)
