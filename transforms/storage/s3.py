"""Objects on S3 and stores that speak as it does, `s3://`."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from transforms.storage import objects
from transforms.storage.causes import http_status
from transforms.storage.clients import bucket_and_name, s3_client
from transforms.storage.objects import StoredObject, version_of
from transforms.storage.retries import retrying

# S3 takes up to 5 GiB in one request; what is larger goes up in pieces that appear together.
_LARGEST_REQUEST_BYTES = 4 * 2**30
_PIECE_BYTES = 128 * 2**20

_NEW = {"IfNoneMatch": "*"}


class S3:
    """An `ObjectStore`."""

    def look(self, path: str) -> StoredObject | None:
        """The object at `path`, if there is one."""
        try:
            found = s3_client().head_object(**named(path))
        except _client_error() as error:
            if http_status(error) == 404:
                return None
            raise
        changed, size = found["LastModified"].timestamp(), found["ContentLength"]
        writer = found["Metadata"].get("writer", "")
        return StoredObject(path, size, changed, found["ETag"], found["ETag"], writer)

    def listed(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose paths begin with `prefix`, asked for page by page."""
        bucket, start = bucket_and_name(prefix)
        where: dict[str, str] = {"Bucket": bucket, "Prefix": start}
        most = objects.PAGE_OBJECTS
        while True:
            page = retrying(functools.partial(s3_client().list_objects_v2, MaxKeys=most, **where))
            for found in page.get("Contents", []):
                path, changed = f"s3://{bucket}/{found['Key']}", found["LastModified"].timestamp()
                yield StoredObject(path, found["Size"], changed, found["ETag"], found["ETag"])
            if not page.get("IsTruncated"):
                return
            where = {**where, "ContinuationToken": page["NextContinuationToken"]}

    def read(self, path: str, most: int) -> tuple[bytes, str]:
        """The first `most` bytes of an object, and the version that it had, by one request."""
        try:
            answer = s3_client().get_object(**named(path), Range=f"bytes=0-{most - 1}")
        except _client_error() as error:
            if http_status(error) != 416:
                raise
            return b"", version_of(0, s3_client().head_object(**named(path))["ETag"])  # it is empty
        with contextlib.closing(answer["Body"]) as body:
            data = body.read()
        return data, version_of(len(data), answer["ETag"])

    def read_range(self, found: StoredObject, start: int, stop: int) -> bytes | None:
        """Some bytes of an object; None if it is not what it was."""
        wanted = {"Range": f"bytes={start}-{stop - 1}", "IfMatch": found.token}
        try:
            answer = s3_client().get_object(**named(found.path), **wanted)
        except _client_error() as error:
            if http_status(error) in (404, 412):
                return None
            raise
        with contextlib.closing(answer["Body"]) as body:
            return body.read()

    def create(self, path: str, local_path: str, writer: str) -> bool:
        """Uploads a file where no object is.

        Returns:
          False: there is one, and it stays.
        """
        try:
            _upload(path, local_path, {"Metadata": {"writer": writer}}, _NEW)
        except _client_error() as error:
            if http_status(error) == 412:
                return False
            raise
        return True

    def replace(self, path: str, local_path: str) -> None:
        """Uploads a file, whatever was there."""
        _upload(path, local_path, {}, {})

    def copy(self, source: StoredObject, target: str) -> bool:
        """Copies an object within the store, over what was there.

        Returns:
          False: the source is not what it was, and nothing was copied.
        """
        client, where = s3_client(), named(source.path)
        try:
            if source.size > _LARGEST_REQUEST_BYTES:
                client.copy(where, **named(target))
            else:
                client.copy_object(
                    **named(target), CopySource=where, CopySourceIfMatch=source.token
                )
        except _client_error() as error:
            if http_status(error) in (404, 412):
                return False
            raise
        return True

    def delete(self, path: str) -> None:
        """Deletes an object; one that is gone is fine."""
        s3_client().delete_object(**named(path))


def named(path: str) -> dict[str, str]:
    """The arguments with which the client is told of an object."""
    bucket, key = bucket_and_name(path)
    return {"Bucket": bucket, "Key": key}


def _client_error() -> type[Exception]:
    from botocore.exceptions import ClientError  # need not be installed here

    return ClientError


def _upload(path: str, local_path: str, about: dict[str, Any], condition: dict[str, str]) -> None:
    where = named(path)
    about = {"ContentType": "application/octet-stream", **about}
    with open(local_path, "rb") as file:
        if os.path.getsize(local_path) <= _LARGEST_REQUEST_BYTES:
            s3_client().put_object(**where, Body=file, **about, **condition)
        else:
            _upload_in_pieces(where, file, about, condition)


def _upload_in_pieces(
    where: dict[str, str], file: BinaryIO, about: dict[str, Any], condition: dict[str, str]
) -> None:
    client = s3_client()
    upload = {**where, "UploadId": client.create_multipart_upload(**where, **about)["UploadId"]}
    try:
        parts: list[dict[str, Any]] = []
        while piece := file.read(_PIECE_BYTES):
            number = {"PartNumber": len(parts) + 1}
            send = functools.partial(client.upload_part, **upload, **number, Body=piece)
            parts.append({**number, "ETag": retrying(send)["ETag"]})
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
    except BaseException:
        with contextlib.suppress(Exception):
            client.abort_multipart_upload(**upload)
        raise
