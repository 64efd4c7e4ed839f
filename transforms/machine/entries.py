"""Directories in the cache that are whole, or are made anew: a model, an export, a converted graph.

An entry holds a manifest, `.whole`: the digest of all other files, and that of what they were made
of, if that is another one. It is written last, before the entry appears in one step; who uses an
entry reads its files against it. So what a full disk, a cleaner of old files or a power cut has
left is never taken for the model, nor is an entry for another because of its name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from transforms.storage.changes import locked

MARKER = ".whole"

_MAX_MANIFEST_BYTES = 1000


class DamagedEntryError(OSError):
    """An entry that is not whole, and that cannot be replaced; the message says what to do."""


def is_whole(directory: str) -> bool:
    """Whether all that was put into an entry is still there, byte for byte."""
    return bool(_verified(directory))


def is_made_of(directory: str, sha256: str) -> bool:
    """Whether an entry is whole, and its manifest says that it was made of what has this digest."""
    return sha256 in _verified(directory)


def _verified(directory: str) -> list[str]:
    """The digests in an entry's manifest, if its files agree with it, else none."""
    try:
        with open(os.path.join(directory, MARKER), encoding="ascii") as file:
            digests = file.read(_MAX_MANIFEST_BYTES).split()
        return digests if digests[:1] == [tree_sha256(directory)] else []
    except (OSError, ValueError):
        return []


def keep(made: str, directory: str, sha256: str | None = None) -> None:
    """Makes a directory an entry, unless somebody else's is there and whole.

    Args:
      made: the directory, in a work directory of its own which the caller removes; moved away.
      directory: where the entry is to be, on the same filesystem.
      sha256: of what it was made of; None: it is what it is.

    Raises:
      DamagedEntryError: what is there is damaged and cannot be taken away.
      OSError: it cannot be written.
    """
    with open(os.path.join(made, MARKER), "w", encoding="ascii") as file:
        file.write("\n".join(filter(None, (tree_sha256(made), sha256))))
    try:
        os.rename(made, directory)
        return
    except OSError:
        if not os.path.lexists(directory):
            raise
    with locked(os.path.dirname(directory)):
        if is_made_of(directory, sha256) if sha256 else is_whole(directory):
            # Another process was first.
            return
        try:
            os.rename(directory, f"{made}-damaged")
        except OSError as error:
            raise DamagedEntryError(
                f"{directory} is damaged and cannot be replaced ({error.strerror}): delete it, or "
                "set BEAM_IMAGE_FEATURES_CACHE to a directory that can be written"
            ) from error
        os.rename(made, directory)


def tree_sha256(root: str) -> str:
    """SHA-256 of a directory's files, their names and sizes, or of one file."""
    digest = hashlib.sha256()
    for path in tree_files(root):
        digest.update(f"{os.path.relpath(path, root)}\0{os.path.getsize(path)}\0".encode())
        with open(path, "rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


def tree_files(root: str) -> list[str]:
    """The paths of a directory's files in order, but for the marker, or that of one file."""
    if not os.path.isdir(root):
        return [root] if os.path.exists(root) else []
    marker = os.path.join(root, MARKER)
    return sorted(path for path in _walk(root) if path != marker)


def _walk(directory: str) -> Iterator[str]:
    for parent, _, names in os.walk(directory, followlinks=True):
        for name in names:
            yield os.path.join(parent, name)
