"""What stores of objects have in common, whichever it is; each call is one request or a few.

An object appears as a whole when its upload ends, so nothing is written under a temporary name. A
call is not repeated here, but for the pages of a listing: its caller does that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from transforms.storage.google_storage import GoogleStorage
from transforms.storage.objects import StoredObject
from transforms.storage.s3 import S3


class ObjectStore(Protocol):
    """What `GoogleStorage` and `S3` can do."""

    def look(self, path: str, /) -> StoredObject | None:
        """The object at `path`, if there is one."""

    def listed(self, prefix: str, /) -> Iterator[StoredObject]:
        """The objects whose paths begin with `prefix`, asked for page by page."""

    def read(self, path: str, most: int, /) -> tuple[bytes, str]:
        """The first `most` bytes of an object, and the version that it had, by one request."""

    def read_range(self, found: StoredObject, start: int, stop: int, /) -> bytes | None:
        """Some bytes of an object, at least one; None if it is not what it was."""

    def create(self, path: str, local_path: str, writer: str, /) -> bool:
        """Uploads a file where no object is; False: there is one, and it stays."""

    def replace(self, path: str, local_path: str, /) -> None:
        """Uploads a file, whatever was there."""

    def copy(self, source: StoredObject, target: str, /) -> bool:
        """Copies an object over what was there; False: the source is not what it was."""

    def delete(self, path: str, /) -> None:
        """Deletes an object; one that is gone is fine."""


_STORES: dict[str, ObjectStore] = {"gs://": GoogleStorage(), "s3://": S3()}


def store_of(path: str) -> ObjectStore | None:
    """The store that `path` is in; None for other filesystems, which Beam reaches for us."""
    return next((store for scheme, store in _STORES.items() if path.startswith(scheme)), None)
