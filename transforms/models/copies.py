"""The models that are kept on this machine: whole ones by their digest, and what a handle meant.

In the cache, `models/sha256-<digest>/` is a whole model and never changes, unless it was damaged:
then it is made anew. Its manifest says of which digest it is; its name alone satisfies no pin.
`models/index/` says which of them a handle meant when it was last asked. A process that is killed
leaves a directory `models/.tmp-…`, which is never read and may be deleted.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator

from transforms import storage
from transforms.machine import entries
from transforms.machine.cache import cache_path, cache_root
from transforms.models import archives, downloads


def kept_place(models: str, sha256: str) -> str:
    """Where the model with this digest lies, whole or not or not at all.

    Args:
      models: the cache's directory of models.
      sha256: of the archive, or of the files of a directory from elsewhere.
    """
    return os.path.join(models, f"sha256-{sha256}")


def kept_model(models: str, sha256: str) -> str | None:
    """The model with this digest; None if it is not here, or no longer whole."""
    place = kept_place(models, sha256)
    return model_in(place) if entries.is_whole(place) else None


def pinned_model(models: str, sha256: str) -> str | None:
    """The model with this digest, if its own manifest says so; else None."""
    place = kept_place(models, sha256)
    return model_in(place) if entries.is_made_of(place, sha256) else None


def refuse_damaged(path: str) -> None:
    """Reads a model of the cache against its manifest, once in a process.

    Raises:
      DamagedEntryError: it has changed since it was put there.
    """
    models = os.path.join(cache_root(), "models")
    if path.startswith(models + os.sep):
        cache_path("models")
        _refuse_damaged(os.path.join(models, os.path.relpath(path, models).split(os.sep)[0]))


@functools.cache
def _refuse_damaged(place: str) -> None:
    if not entries.is_whole(place):
        raise entries.DamagedEntryError(
            f"{place}, its copy in the cache, has changed since it was put there: delete it; it is "
            "staged anew"
        )


def keep_archive(archive: str, work: str, models: str, sha256: str) -> str:
    """Unpacks an archive, unless its model is here and whole; returns the model.

    Raises:
      ArchiveError: see `archives.unpack`.
      OSError: it cannot be kept.
    """
    model = pinned_model(models, sha256)
    if model is None:
        tree = os.path.join(work, "tree")
        archives.unpack(archive, tree)
        model = keep_tree(tree, models, sha256)
    return model


def keep_tree(tree: str, models: str, sha256: str) -> str:
    """Puts a directory in `work_directory` in its place; returns the model.

    Raises:
      OSError: it cannot be kept.
    """
    place = kept_place(models, sha256)
    entries.keep(tree, place, sha256)
    return model_in(place)


def model_in(place: str) -> str:
    """The model in an unpacked archive: the root, or the one directory or `.keras` file in it."""
    names = [name for name in os.listdir(place) if not name.startswith(".")]
    inner = os.path.join(place, names[0]) if len(names) == 1 else place
    is_model = inner.endswith(".keras") or os.path.exists(os.path.join(inner, "saved_model.pb"))
    return inner if is_model else place


@contextlib.contextmanager
def work_directory(models: str) -> Iterator[str]:
    """A directory on the cache's filesystem that is gone at the end."""
    os.makedirs(models, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=models) as work:
        yield work


def read_index(models: str, handle: str) -> downloads.Download | None:
    """What `handle` meant when it was last staged; None where that is not known."""
    try:
        with open(_index_path(models, handle), encoding="utf-8") as file:
            entry = json.load(file)
        return downloads.Download(entry["sha256"], dict(entry["validators"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_index(models: str, handle: str, staged: downloads.Download) -> None:
    """Notes what `handle` means now."""
    entry = {"sha256": staged.sha256, "validators": staged.validators}
    storage.write_text(_index_path(models, handle), json.dumps(entry))


def _index_path(models: str, handle: str) -> str:
    return os.path.join(models, "index", hashlib.sha256(handle.encode()).hexdigest() + ".json")
