"""Where what was made once is kept on this machine: models, converted graphs, what was measured.

Models run with the rights of whoever loads them, so a cache that somebody else can write is none.
"""

from __future__ import annotations

import contextlib
import os
import stat

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UnsafeCacheError(OSError):
    """A cache into which somebody else can put what is run; the message says what to do."""


def cache_path(*names: str, root: str | None = None) -> str:
    """An absolute path in the cache, which is made, for this user alone, if it is not there.

    Args:
      names: below the cache; nothing is made of them.
      root: the cache; None: `$BEAM_IMAGE_FEATURES_CACHE`, else
        `$XDG_CACHE_HOME/beam-image-features`, else `~/.cache/beam-image-features`. What lies below
        a directory that only this user enters may have any mode.

    Raises:
      UnsafeCacheError: the cache, or a directory on the way, belongs to another user, or others
        can write it.
    """
    path = os.path.abspath(root) if root else cache_root()
    with contextlib.suppress(OSError):  # it is told where something is to be written
        os.makedirs(path, mode=0o700, exist_ok=True)
    is_private = _is_private(path)
    for name in names:
        path = os.path.join(path, name)
        is_private = is_private or _is_private(path)
    return path


def cache_root() -> str:
    """The directory of the cache, there or not, and not looked at."""
    root = os.environ.get("BEAM_IMAGE_FEATURES_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "beam-image-features"
    )
    return os.path.abspath(os.path.expanduser(root))


def _is_private(path: str) -> bool:
    """Whether others get no further than here, so that what lies below may have any mode.

    Raises:
      UnsafeCacheError: they can write here.
    """
    try:
        status = os.stat(path)
    except OSError:
        return False
    if status.st_uid not in (os.geteuid(), 0):
        raise UnsafeCacheError(
            f"{path} in the cache belongs to another user ({status.st_uid}), who could put a "
            "program there: set BEAM_IMAGE_FEATURES_CACHE to a directory of your own"
        )
    if status.st_mode & _OTHERS_WRITE:
        raise UnsafeCacheError(
            f"{path} in the cache can be written by others (mode {status.st_mode & 0o777:o}), who "
            "could have put a program there: delete it (an empty one: chmod 700), or set "
            "BEAM_IMAGE_FEATURES_CACHE to a directory that only you can write"
        )
    return not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
