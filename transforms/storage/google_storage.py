"""Objects on Google Cloud Storage, `gs://`."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

from google.api_core.exceptions import (
    NotFound,
    PreconditionFailed,
    RequestRangeNotSatisfiable,
)
from google.cloud.exceptions import from_http_response

from transforms.storage import objects
from transforms.storage.clients import bucket_and_name, gcs_client
from transforms.storage.objects import StoredObject, version_of
from transforms.storage.retries import retrying

_LISTED = "items(name,size,generation,updated,crc32c),nextPageToken"
_BLOCK_BYTES = 2**20


class GoogleStorage:
    """An `ObjectStore`."""

    def look(self, path: str) -> StoredObject | None:
        """The object at `path`, if there is one."""
        where = blob(path)
        found = where.bucket.get_blob(where.name, retry=None)
        return None if found is None else _stored(found)

    def listed(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose paths begin with `prefix`, asked for page by page."""
        bucket, start = bucket_and_name(prefix)
        token: str | None = None
        while True:
            page, token = retrying(functools.partial(_page, bucket, start, token))
            yield from map(_stored, page)
            if not token:
                return

    def read(self, path: str, most: int) -> tuple[bytes, str]:
        """The first `most` bytes of an object, and the version that it had, by one request."""
        where = blob(path)
        try:
            data = where.download_as_bytes(start=0, end=most - 1, raw_download=True, retry=None)
        except RequestRangeNotSatisfiable:  # it is empty
            where.reload(retry=None)
            data = b""
        return data, version_of(len(data), where.generation)

    def read_range(self, found: StoredObject, start: int, stop: int) -> bytes | None:
        """Some bytes of an object; None if it is not what it was."""
        condition = {"if_generation_match": found.token, "retry": None}
        asked = blob(found.path)
        with contextlib.suppress(NotFound, PreconditionFailed):
            data = asked.download_as_bytes(
                start=start, end=stop - 1, raw_download=True, **condition
            )
            return data if asked.generation in (None, found.token) else None
        return None

    def create(self, path: str, local_path: str, writer: str) -> bool:
        """Uploads a file where no object is.

        Returns:
          False: there is one, and it stays.
        """
        try:
            _upload(path, local_path, {"ifGenerationMatch": "0"}, {"metadata": {"writer": writer}})
        except PreconditionFailed:
            return False
        return True

    def replace(self, path: str, local_path: str) -> None:
        """Uploads a file, whatever was there."""
        _upload(path, local_path, {}, {})

    def copy(self, source: StoredObject, target: str) -> bool:
        """Copies an object within the store, over what was there.

        Returns:
          False: the source is not what it was, and nothing was copied.
        """
        where, token = blob(target), None
        with contextlib.suppress(NotFound, PreconditionFailed):
            while True:
                token, _, _ = where.rewrite(
                    blob(source.path), token, if_source_generation_match=source.token, retry=None
                )
                if token is None:
                    return True
        return False

    def delete(self, path: str) -> None:
        """Deletes an object; one that is gone is fine."""
        with contextlib.suppress(NotFound):
            blob(path).delete(retry=None)


def blob(path: str) -> Any:
    """The `google.cloud.storage.Blob` of a path; nothing is asked of the store yet."""
    bucket, name = bucket_and_name(path)
    return gcs_client().bucket(bucket).blob(name)


def _page(bucket: str, prefix: str, token: str | None) -> tuple[list[Any], str | None]:
    answer = gcs_client().list_blobs(
        bucket,
        prefix=prefix,
        page_token=token,
        page_size=objects.PAGE_OBJECTS,
        fields=_LISTED,
        retry=None,
    )
    return list(next(answer.pages, ())), answer.next_page_token


def _stored(found: Any) -> StoredObject:
    return StoredObject(
        f"gs://{found.bucket.name}/{found.name}",
        found.size,
        found.updated.timestamp(),
        found.generation,
        found.crc32c or "",
        (found.metadata or {}).get("writer", ""),
    )


def _upload(
    path: str, local_path: str, condition: dict[str, str], resource: dict[str, object]
) -> None:
    """One request with the resource and the bytes: a resumable upload would be several.

    Source of the format: cloud.google.com/storage/docs/uploading-objects ("multipart upload").
    """
    client = gcs_client()
    bucket, name = bucket_and_name(path)
    body = _Multipart(json.dumps({"name": name, **resource}).encode(), local_path)
    answer = client._http.request(
        "POST",
        f"{client._connection.API_BASE_URL}/upload/storage/v1/b/{bucket}/o",
        params={"uploadType": "multipart", **condition},
        data=body,
        headers={**client._connection.extra_headers, "Content-Type": body.content_type},
    )
    if not answer.ok:
        raise from_http_response(answer)


class _Multipart:
    """A body of two parts that is read from the file while it is sent, however large that is."""

    def __init__(self, resource: bytes, local_path: str):
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/related; boundary={boundary}"
        self._head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode()
            + resource
            + f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        )
        self._path = local_path
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._head) + os.path.getsize(self._path) + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with open(self._path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                yield block
        yield self._tail
