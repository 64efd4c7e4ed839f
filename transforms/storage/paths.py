"""Paths and URIs, of which nothing is asked but their text."""

from __future__ import annotations

import os
import re


def is_local(path: str) -> bool:
    """True for a path without a scheme such as `gs://`."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is None


def join(directory: str, *names: str) -> str:
    """The path of `names` below `directory`, local or not."""
    return "/".join([directory.rstrip("/"), *names])


def absolute(path: str) -> str:
    """A local path made absolute; a URI as it is."""
    return os.path.abspath(os.path.expanduser(path)) if is_local(path) else path
