"""Small text files that several processes want to change, of which only one at a time may.

A write says what it read before, and takes place only if that is still so. On `gs://` (generation)
and `s3://` (ETag) the store itself sees to it; local files are compared and renamed under a lock on
their directory. Elsewhere the last writer wins, and who wrote looks again after a moment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import time
from typing import Any

from google.api_core.exceptions import NotFound, PreconditionFailed

from transforms import storage
from transforms.storage.changes import locked
from transforms.storage.clients import asking, s3_client
from transforms.storage.google_storage import blob as gcs_blob
from transforms.storage.paths import too_large
from transforms.storage.s3 import named

# Bytes of such a file: more is not read.
MOST_BYTES = 2**27

# Where a write cannot have a condition: how long two that began at once may be apart.
SETTLE_SECONDS = 2.0

_S3_REFUSALS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"})


@dataclasses.dataclass(frozen=True)
class StoredText:
    """What a file held when it was read or written.

    Attributes:
      text: the content.
      token: the store's name for this version: generation or ETag; None for other filesystems.
    """

    text: str
    token: int | str | None = None


def read_text(path: str, most: int = MOST_BYTES) -> StoredText | None:
    """The file; None if there is none.

    Args:
      path: of the file.
      most: bytes that it may have.

    Raises:
      UnusableFileError: it has more, is a link or no regular file.
      OSError: it cannot be read.
    """
    if path.startswith("gs://"):
        return asking(path, lambda: _read_gcs(path, most))
    if path.startswith("s3://"):
        return asking(path, lambda: _read_s3(path, most))
    return _read_file(path, most)


def read_text_surely(path: str, most: int = MOST_BYTES) -> StoredText | None:
    """The file; where one that is replaced is gone for a moment, it is looked for twice.

    Args:
      path, most: as in `read_text`.

    Raises:
      OSError: it cannot be read.
    """
    found = read_text(path, most)
    if found is None and not (storage.is_local(path) or path.startswith(("gs://", "s3://"))):
        time.sleep(SETTLE_SECONDS)
        found = read_text(path, most)
    return found


def write_if_unchanged(path: str, text: str, seen: StoredText | None) -> StoredText | None:
    """Writes the file if it still is what was seen.

    Args:
      path: of the file.
      text: unlike that of any other writer.
      seen: what `read` gave, or the last write; None writes only if there is no file.

    Returns:
      what is there now; None if somebody else has changed the file and nothing was written.

    Raises:
      OSError: it cannot be written.
    """
    if path.startswith("gs://"):
        written = asking(path, lambda: _write_gcs(path, text, seen))
    elif path.startswith("s3://"):
        written = asking(path, lambda: _write_s3(path, text, seen))
    elif storage.is_local(path):
        written = _write_local(path, text, seen)
    else:
        written = _write_and_settle(path, text, seen)
    if written is None:
        # A request that a client sent again, for want of an answer, is refused for the first one.
        found = read_text(path)
        written = found if found is not None and found.text == text else None
    return written


def delete_if_unchanged(path: str, seen: StoredText) -> None:
    """Deletes the file if it still is what was seen; on S3 and elsewhere it looks just before.

    Raises:
      OSError: it cannot be deleted.
    """
    if path.startswith("gs://"):
        asking(path, lambda: _delete_gcs(path, seen))
    elif not storage.is_local(path):
        if read_text(path) == seen:
            storage.delete([path])
    else:
        with locked(os.path.dirname(path)):
            if _read_file(path) == seen:
                storage.delete([path])


class _Content(io.BytesIO):
    """Takes so many bytes of a file and no more."""

    def __init__(self, path: str, most: int):
        super().__init__()
        self._path, self._most = path, most

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > self._most:
            raise too_large(self._path, self._most)
        return super().write(data)


def _read_gcs(path: str, most: int) -> StoredText | None:
    blob, content = gcs_blob(path), _Content(path, most)
    with contextlib.suppress(NotFound):
        blob.download_to_file(content, raw_download=True, retry=None)
        return StoredText(_decoded(content.getvalue()), blob.generation)
    return None


def _write_gcs(path: str, text: str, seen: StoredText | None) -> StoredText | None:
    blob = gcs_blob(path)
    try:
        condition = 0 if seen is None else seen.token
        blob.upload_from_string(text, if_generation_match=condition, retry=None)
    except PreconditionFailed:
        return None
    return StoredText(text, blob.generation)


def _delete_gcs(path: str, seen: StoredText) -> None:
    with contextlib.suppress(NotFound, PreconditionFailed):
        gcs_blob(path).delete(if_generation_match=seen.token, retry=None)


def _read_s3(path: str, most: int) -> StoredText | None:
    client = s3_client()
    try:
        answer = client.get_object(**named(path))
    except client.exceptions.NoSuchKey:
        return None
    with contextlib.closing(answer["Body"]) as body:
        if answer["ContentLength"] > most:
            raise too_large(path, most)
        return StoredText(_decoded(body.read()), answer["ETag"])


def _write_s3(path: str, text: str, seen: StoredText | None) -> StoredText | None:
    client = s3_client()
    condition = {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen.token}
    try:
        answer = client.put_object(**named(path), Body=text.encode(), **condition)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in _S3_REFUSALS:
            return None
        raise
    return StoredText(text, answer["ETag"])


def _read_file(path: str, most: int = MOST_BYTES) -> StoredText | None:
    try:
        if storage.is_local(path):
            return StoredText(_decoded(storage.read_unlinked(path, most)))
        with storage.open_input(path) as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise too_large(path, most)
        return StoredText(_decoded(content))
    except OSError:
        if storage.exists(path):
            raise
        return None


def _write_local(path: str, text: str, seen: StoredText | None) -> StoredText | None:
    with locked(os.path.dirname(path)):
        if _read_file(path) != seen:
            return None
        storage.write_text(path, text)
        return StoredText(text)


def _write_and_settle(path: str, text: str, seen: StoredText | None) -> StoredText | None:
    if _read_file(path) != seen:
        return None
    storage.write_text(path, text)
    time.sleep(SETTLE_SECONDS)
    return StoredText(text) if _read_file(path) == StoredText(text) else None


def _decoded(content: bytes) -> str:
    return content.decode(errors="replace")
