"""An image ref says where one image is and which version of it. It never holds pixels."""

from __future__ import annotations

import dataclasses
import hashlib

_CONTENT = "sha256-"


@dataclasses.dataclass(frozen=True, slots=True)
class ImageRef:
    """Where one image is, and which version of it.

    Attributes:
      id: the image's name in the output, unique within it. For a file its URI; for a record
        `<uri>#<record index>` or the value of the Example's id feature.
      uri: the file that holds the image: an absolute path or `scheme://…`.
      version: changes when the image may have changed: file size in bytes and modification time,
        or a digest of its bytes where that was asked for.
      size: bytes of the file or the record; None where it could not be seen.
      record_index: position of the record in its container file, from 0; None for a plain file.
      offset: byte offset of the record in its (decompressed) container; None for a plain file.
      label: name of the parent directory where it was asked for, else None.
      problem: what was already seen to be wrong when the inputs were listed; such a ref becomes an
        error row.

    >>> ImageRef(id="/photos/cat.jpg", uri="/photos/cat.jpg", version="9-1").is_record
    False
    """

    id: str
    uri: str
    version: str
    size: int | None = None
    record_index: int | None = None
    offset: int | None = None
    label: str | None = None
    problem: str | None = None

    @property
    def is_record(self) -> bool:
        """True for a record of a container file, False for a file of its own."""
        return self.record_index is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Unreadable:
    """A container in which there are images that cannot be found.

    Attributes:
      uri: the container.
      bytes: in which they lie; 0 where that is not known.
      images: about how many there are, by the size of those that were found.
      places: where they lie; for each there is a ref that will be an error row; at most `images`.
    """

    uri: str
    bytes: int
    images: int
    places: int = 1


def content_version(data: bytes) -> str:
    """The version of an image with these encoded bytes.

    >>> content_version(b"")
    'sha256-e3b0c44298fc1c149afbf4c8996fb924'
    """
    return _CONTENT + hashlib.sha256(data).hexdigest()[:32]


def is_content_version(version: str) -> bool:
    """Whether a version follows from the bytes."""
    return version.startswith(_CONTENT)
