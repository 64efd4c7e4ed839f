"""A directory that appears with all that is in it, or not at all: a model and its report.

It is written beside its place, put on disk, and renamed. What was there before is exchanged for it
in one step where the filesystem can; killed at any moment, the old or the new one is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator

from transforms.errors import Parameter, UserError, one_line
from transforms.storage import faults, is_local
from transforms.storage.changes import sync_directory

# What is replaced holds this file: nothing else is ever deleted.
_OWN_FILE = "saved_model.pb"

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@contextlib.contextmanager
def appears_at_once(final: str, overwrite: bool = False) -> Iterator[str]:
    """Gives a directory to write into, which becomes `final` if the body ends without an error.

    Whatever a killed process has left of its own is removed by the next one for the same place.

    Args:
      final: a local path. What is there is an empty directory, or a model of this program.
      overwrite: whether such a model is replaced; what else lies in its directory goes with it.

    Yields:
      the path of an empty directory on the same filesystem.

    Raises:
      UserError: `final` is elsewhere than on this machine, is a link or a file, holds something, or
        cannot be written; nothing was changed. Of the last it may be told at the end of the body.
    """
    if not is_local(final):
        raise UserError("give a directory on this machine, and copy it afterwards", subject=final)
    path = os.path.abspath(os.path.expanduser(final))
    parent, name = os.path.split(path)
    put_aside = os.path.join(parent, f".{name}.replaced")
    with _told(final):
        os.makedirs(parent, exist_ok=True)
        if not os.path.lexists(path) and os.path.isdir(put_aside):
            os.rename(put_aside, path)  # somebody was killed between two renames
        _refuse_what_is_there(path, final, overwrite)
        _remove_dead(parent, name)
        made = os.path.join(parent, f".{name}.new-{uuid.uuid4().hex[:12]}")
        os.mkdir(made)
    handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield made
        with _told(final):
            _sync_tree(made)
            faults.reached("before_model_appears")
            _refuse_what_is_there(path, final, overwrite)  # it may have come meanwhile
            _put(made, path, put_aside)
            faults.reached("after_model_appeared")
            sync_directory(parent)
    finally:
        os.close(handle)
        # After an exchange the old one, else what was not finished.
        for left in (made, put_aside):
            if os.path.lexists(path) or left == made:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _told(final: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot be written: {one_line(error)}", subject=final) from error


def _refuse_what_is_there(path: str, final: str, overwrite: bool) -> None:
    if os.path.islink(path):
        raise UserError("is a link; give the directory itself", subject=final)
    if not os.path.lexists(path):
        return
    if not os.path.isdir(path):
        raise UserError("is a file; give a directory", subject=final)
    names = os.listdir(path)
    if not names:
        return
    if not overwrite:
        told = Parameter("overwrite", True)
        raise UserError("holds something already; ", told, " replaces a model", subject=final)
    if _OWN_FILE not in names:
        raise UserError(
            f"holds something, and no {_OWN_FILE}: only a model is ever replaced", subject=final
        )


def _put(made: str, path: str, put_aside: str) -> None:
    if not os.path.lexists(path) or not os.listdir(path):
        os.rename(made, path)
    elif not _exchanged(made, path):
        shutil.rmtree(put_aside, ignore_errors=True)
        os.rename(path, put_aside)
        faults.reached("between_models")
        try:
            os.rename(made, path)
        except OSError:
            os.rename(put_aside, path)
            raise


def _exchanged(one: str, other: str) -> bool:
    """Whether two directories have changed places, in one step; False: it cannot be done here."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:  # not Linux
        return False
    names = os.fsencode(one), _AT_FDCWD, os.fsencode(other)
    if rename(_AT_FDCWD, *names, _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), other)


def _remove_dead(parent: str, name: str) -> None:
    """Removes what processes have left that no longer live: a living one has its own locked."""
    with os.scandir(parent) as entries:
        left = [
            entry.path
            for entry in entries
            if entry.name.startswith(f".{name}.new-") and entry.is_dir(follow_symlinks=False)
        ]
    for path in left:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)
    put_aside = os.path.join(parent, f".{name}.replaced")
    is_model = os.path.isfile(os.path.join(put_aside, _OWN_FILE))
    if is_model and not os.path.islink(put_aside):
        shutil.rmtree(put_aside, ignore_errors=True)


def _sync_tree(directory: str) -> None:
    """Puts all files on disk, so that a power cut after the rename cannot leave them empty."""
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        sync_directory(folder)
