"""What a store tells of an object."""

from __future__ import annotations

import dataclasses

# How many objects one request of a listing asks for; the stores give no more.
PAGE_OBJECTS = 1000


@dataclasses.dataclass(frozen=True)
class StoredObject:
    """An object as its store tells of it.

    Attributes:
      path: `scheme://bucket/object`.
      size: in bytes.
      modified: when it was last written, in seconds since the epoch.
      token: the store's name for this state: generation or ETag.
      checksum: what the store keeps of its bytes.
      writer: who created it, as `create` was told; "" in listings and for others.
    """

    path: str
    size: int
    modified: float
    token: int | str
    checksum: str = ""
    writer: str = ""

    @property
    def version(self) -> str:
        """Another one after each change, wherever and in whatever time zone it is looked at.

        >>> StoredObject("gs://b/a", 9, 0.0, 17).version
        '9-g17'
        >>> StoredObject("s3://b/a", 9, 0.0, '"5d41402abc4b"').version
        '9-e5d41402abc4b'
        """
        return version_of(self.size, self.token)


def version_of(size: int, token: int | str) -> str:
    """The version of an object of this size, with this generation or ETag."""
    return f"{size}-g{token}" if isinstance(token, int) else f"{size}-e{token.strip(chr(34))}"
