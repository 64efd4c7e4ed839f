"""Moving and deleting files, wherever they lie, again after what passes.

A step that was done and whose answer was lost is done when it is asked for again: a file that is
at its new place has been moved, and one that is gone has been deleted.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import functools
import os
import shutil
from collections.abc import Iterator

from apache_beam.io.filesystems import FileSystems

from transforms.storage.clients import asking
from transforms.storage.files import match_below
from transforms.storage.object_stores import ObjectStore, store_of
from transforms.storage.paths import is_local
from transforms.storage.retries import WRITE_ATTEMPTS

_DELETE_THREADS = 16


def delete(paths: list[str]) -> None:
    """Deletes files, and directories with all that is in them; what is gone already is fine.

    Raises:
      OSError: one of them cannot be deleted.
    """
    if len(paths) < 2:
        for path in paths:
            _delete(path)
        return
    with concurrent.futures.ThreadPoolExecutor(_DELETE_THREADS) as pool:
        for _ in pool.map(_delete, paths):
            pass


def _delete(path: str) -> None:
    store = store_of(path)
    if store:
        below = [found for found, _ in match_below(path)]
        for one in (*below, path):
            asking(one, functools.partial(store.delete, one), WRITE_ATTEMPTS)
    elif not is_local(path):
        found = [below for below, _ in match_below(path)]
        found += [path] if FileSystems.exists(path) else []
        if found:
            FileSystems.delete(found)
    elif os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def move(moves: list[tuple[str, str]]) -> None:
    """Renames files within one filesystem, over what was there; those moved already are fine.

    Raises:
      FileNotFoundError: a file is neither here nor there.
      OSError: a file cannot be moved; it is where it was, or in both places.
    """
    for source, target in moves:
        store = store_of(source)
        if store:
            step = functools.partial(_move_object, store, source, target)
            asking(source, step, WRITE_ATTEMPTS)
        elif not is_local(source):
            asking(source, functools.partial(_rename, source, target), WRITE_ATTEMPTS)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                os.replace(source, target)
            except FileNotFoundError:
                if not os.path.lexists(target):
                    raise
    for directory in sorted({os.path.dirname(target) for _, target in moves if is_local(target)}):
        sync_directory(directory)


def _move_object(store: ObjectStore, source: str, target: str) -> None:
    found = store.look(source)
    if found is None:
        if store.look(target) is None:
            raise _lost(source, target)
    elif store.copy(found, target):
        store.delete(source)
    else:
        raise ConnectionAbortedError(f"{source} was replaced while it was moved to {target}")


def _rename(source: str, target: str) -> None:
    if FileSystems.exists(source):
        FileSystems.rename([source], [target])
    elif not FileSystems.exists(target):
        raise _lost(source, target)


def _lost(source: str, target: str) -> FileNotFoundError:
    return FileNotFoundError(f"{source} is not there and cannot be moved to {target}")


def remove_if_empty(directory: str) -> None:
    """Removes a local directory that holds nothing; elsewhere there are no empty directories."""
    if is_local(directory):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def sync_directory(directory: str) -> None:
    """Makes renames in a directory durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Two processes on this machine are never in the body at the same time.

    Args:
      directory: local, made if absent; the lock is on it.

    Raises:
      OSError: it cannot be made or opened.
    """
    os.makedirs(directory, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a network filesystem may not know locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
