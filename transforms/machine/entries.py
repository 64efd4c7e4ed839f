"""Directories in the cache that are whole, or are made anew: a model, an export, a converted graph.

An entry holds a manifest, `.whole`: the digest of all other files, and that of what they were made
of, if that is another one. It is written last, before the entry appears in one step; who uses an
entry reads its files against it. So what a full disk, a cleaner of old files or a power cut has
left is never taken for the model, nor is an entry for another because of its name.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator

from transforms.storage.changes import locked

MARKER = ".whole"

_MAX_MANIFEST_BYTES = 1000
# Of a model. A directory counts as often as links lead to it.
_MAX_FILES = 100_000
_MAX_DIRECTORIES = 1000
_MAX_DEPTH = 100


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
    """The paths of a directory's files in order, but for the marker, or that of one file.

    Raises:
      OSError: by its links the directory contains itself, it holds more than any model does, or
        what is neither a file nor a directory, which may have no end.
    """
    if not os.path.isdir(root):
        return [root] if os.path.exists(root) else []
    marker = os.path.join(root, MARKER)
    return sorted(path for path in _walk(root) if path != marker)


def _walk(directory: str) -> Iterator[str]:
    """All files below a directory; links are followed."""
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(directory, ())]
    files = directories = 0
    while waiting:
        path, above = waiting.pop()
        status = os.stat(path)
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise OSError(errno.ELOOP, f"by a link the directory contains itself: {path}")
        directories += 1
        if directories > _MAX_DIRECTORIES:
            told = f"more than {_MAX_DIRECTORIES:,} directories in {directory}"
            raise OSError(errno.EFBIG, told)
        if len(above) > _MAX_DEPTH:
            raise OSError(errno.ELOOP, f"more than {_MAX_DEPTH} directories deep: {path}")
        for inner in _listed(path):
            files += 1
            if files > _MAX_FILES:
                raise OSError(errno.EFBIG, f"more than {_MAX_FILES:,} files in {directory}")
            if os.path.isdir(inner):
                waiting.append((inner, (*above, here)))
            elif os.path.exists(inner) and not os.path.isfile(inner):
                raise OSError(errno.EINVAL, f"neither a file nor a directory: {inner}")
            else:
                yield inner


def _listed(directory: str) -> list[str]:
    """What lies in a directory; nothing where it may not be listed, as who reads a file says it."""
    try:
        return [os.path.join(directory, name) for name in os.listdir(directory)]
    except PermissionError:
        return []
