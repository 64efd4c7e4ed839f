"""An object store in this process that keeps to the conditions of requests, as the real ones do.

The program's own clients speak to it, S3's and Google's: their requests are answered before they
leave the process. So a night has thousands of tries in which emulators, which are servers and heed
conditions of some requests alone, have ten.

with simulated_store.s3() as store:
    store.before = lambda request: ...  # it may raise, or give a status that is answered instead

Listings show each write at once, as those of S3 and Google Cloud Storage do (strong consistency).
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import hashlib
import io
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator
from xml.sax.saxutils import escape

import botocore.awsrequest
import google_crc32c
import pytest
import requests
import urllib3
from apache_beam.internal.gcp import auth
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from transforms.storage import clients, retries

Answer = tuple[int, dict[str, str], bytes]

_GOOGLE = "http://simulated.invalid"


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
      method: of HTTP.
      name: of the object, or of the prefix that is listed.
      changes: whether it is to change something.
    """

    method: str
    name: str
    changes: bool


@dataclasses.dataclass(frozen=True)
class StoredBytes:
    """An object as it is kept."""

    data: bytes
    generation: int
    metadata: dict[str, str]

    @property
    def etag(self) -> str:
        """As S3 has it, with its quotation marks."""
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'

    @property
    def crc32c(self) -> str:
        """As Google's store has it."""
        return base64.b64encode(google_crc32c.Checksum(self.data).digest()).decode()

    @property
    def updated(self) -> datetime.datetime:
        """Each write is a second later than the one before."""
        return datetime.datetime.fromtimestamp(1_700_000_000 + self.generation, datetime.UTC)


class SimulatedStore:
    """One bucket.

    Attributes:
      uri: of the bucket.
      objects: by name.
      before: called before a request is carried out; the status that is answered instead, if any.
      after: called after a request was carried out; the status that is answered nevertheless.
      requests: how many there were.
      writes: how many of them wrote an object; the generation of the last one.
    """

    def __init__(self, uri: str):
        self.uri = uri
        self.objects: dict[str, StoredBytes] = {}
        self.requests = 0
        self.writes = 0
        self.before: Callable[[Request], int | None] = lambda request: None
        self.after: Callable[[Request], int | None] = lambda request: None

    def asked(self, request: Request, carry_out: Callable[[], Answer]) -> Answer:
        """Answers, or fails as it is told to."""
        self.requests += 1
        status = self.before(request)
        if status is None:
            answer = carry_out()
            status = self.after(request)
            if status is None:
                return answer
        return status, {}, b""

    def put(self, name: str, data: bytes, metadata: dict[str, str] | None = None) -> StoredBytes:
        """Writes an object, whatever was there."""
        self.writes += 1
        self.objects[name] = StoredBytes(data, self.writes, metadata or {})
        return self.objects[name]


@contextlib.contextmanager
def s3() -> Iterator[SimulatedStore]:
    """It speaks S3's XML."""
    store = SimulatedStore("s3://bucket")
    create = clients._new_s3_client

    def simulated(options: object) -> object:
        client = create(options)
        client.meta.events.register(
            "before-send.s3", lambda request, **_: _answer_s3(store, request)
        )
        return client

    with _patched() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setattr(clients, "_new_s3_client", simulated)
        yield store


@contextlib.contextmanager
def google() -> Iterator[SimulatedStore]:
    """It speaks Google's JSON."""
    store = SimulatedStore("gs://bucket")

    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:
            status, headers, body = _answer_google(store, request)
            raw = urllib3.HTTPResponse(
                io.BytesIO(body),
                headers,
                status,
                preload_content=False,
                request_method=request.method,
            )
            return self.build_response(request, raw)

    with _patched() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", _GOOGLE)
        patch.setattr(clients, "_Adapter", lambda pool_maxsize: Adapter())
        yield store


@contextlib.contextmanager
def _patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retries, "FIRST_WAIT_SECONDS", 0)
        patch.setattr(auth._Credentials, "_credentials_init", True)
        patch.setattr(auth._Credentials, "_credentials", None)
        patch.setattr(FileSystems, "_pipeline_options", PipelineOptions([]))
        patch.setattr(clients, "_clients", {})
        yield patch


class _Raw(io.BytesIO):
    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self.read()


def _answer_s3(
    store: SimulatedStore, request: botocore.awsrequest.AWSPreparedRequest
) -> botocore.awsrequest.AWSResponse:
    url = urllib.parse.urlsplit(request.url)
    query = dict(urllib.parse.parse_qsl(url.query))
    name = urllib.parse.unquote(url.path).removeprefix("/bucket").removeprefix("/")
    name = name or query.get("prefix", "")
    headers = {key.lower(): _text(value) for key, value in request.headers.items()}
    changes = request.method in ("PUT", "DELETE")

    def carry_out() -> Answer:
        if request.method == "DELETE":
            found = store.objects.get(name)
            wanted = headers.get("if-match")
            if wanted and (found is None or found.etag != wanted):
                return _refused(404 if found is None else 412)
            store.objects.pop(name, None)
            return 204, {}, b""
        if request.method == "PUT":
            return _put_s3(store, name, headers, request.body)
        if "list-type" in query:
            return _list_s3(store, query)
        return _get(store, name, headers)

    status, sent, body = store.asked(Request(request.method, name, changes), carry_out)
    body = b"" if request.method == "HEAD" else body
    return botocore.awsrequest.AWSResponse(request.url, status, sent, _Raw(body))


def _put_s3(store: SimulatedStore, name: str, headers: dict[str, str], body: object) -> Answer:
    data = body if isinstance(body, bytes) else body.read() if body is not None else b""
    found = store.objects.get(name)
    if "if-none-match" in headers and found is not None:
        return _refused(412)
    if "if-match" in headers and (found is None or found.etag != headers["if-match"]):
        return _refused(404 if found is None else 412)
    if "x-amz-copy-source" in headers:
        source_name = urllib.parse.unquote(headers["x-amz-copy-source"]).lstrip("/")
        source = store.objects.get(source_name.removeprefix("bucket/"))
        if source is None:
            return _refused(404)
        if headers.get("x-amz-copy-source-if-match", source.etag) != source.etag:
            return _refused(412)
        put = store.put(name, source.data, source.metadata)
        etag = f"<CopyObjectResult><ETag>{escape(put.etag)}</ETag></CopyObjectResult>"
        return 200, {}, etag.encode()
    about = {
        key.removeprefix("x-amz-meta-"): value
        for key, value in headers.items()
        if key.startswith("x-amz-meta-")
    }
    if headers.get("content-encoding", "").startswith("aws-chunked"):
        data = _unchunked(data)
    return 200, {"ETag": store.put(name, data, about).etag}, b""


def _list_s3(store: SimulatedStore, query: dict[str, str]) -> Answer:
    names = sorted(name for name in store.objects if name.startswith(query.get("prefix", "")))
    entries = "".join(
        f"<Contents><Key>{escape(name)}</Key><Size>{len(found.data)}</Size>"
        f"<ETag>{escape(found.etag)}</ETag>"
        f"<LastModified>{found.updated:%Y-%m-%dT%H:%M:%S.000Z}</LastModified></Contents>"
        for name in names
        for found in [store.objects[name]]
    )
    whole = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    return 200, {"Content-Type": "application/xml"}, whole.encode()


def _get(store: SimulatedStore, name: str, headers: dict[str, str]) -> Answer:
    found = store.objects.get(name)
    if found is None:
        return _refused(404)
    if headers.get("if-match", found.etag) != found.etag:
        return _refused(412)
    sent = {
        "ETag": found.etag,
        "Last-Modified": f"{found.updated:%a, %d %b %Y %H:%M:%S GMT}",
        "x-goog-generation": str(found.generation),
        **{f"x-amz-meta-{key}": value for key, value in found.metadata.items()},
    }
    data, status = found.data, 200
    if "range" in headers:
        start, stop = map(int, re.findall(r"\d+", headers["range"]))
        if start >= len(data):
            return _refused(416)
        status = 206
        sent["Content-Range"] = f"bytes {start}-{min(stop, len(data) - 1)}/{len(data)}"
        data = data[start : stop + 1]
    return status, {**sent, "Content-Length": str(len(data))}, data


def _answer_google(store: SimulatedStore, request: requests.PreparedRequest) -> Answer:
    url = urllib.parse.urlsplit(request.url)
    query = dict(urllib.parse.parse_qsl(url.query))
    kind, _, rest = url.path.partition("/storage/v1/b/bucket/o")
    names = [urllib.parse.unquote(part) for part in rest.strip("/").split("/rewriteTo/b/bucket/o/")]
    name = names[-1]
    if kind == "/upload":
        resource, data = _parts(request)
        name = resource["name"]
    headers = {key.lower(): _text(value) for key, value in request.headers.items()}
    changes = request.method in ("POST", "DELETE")

    def carry_out() -> Answer:
        found = store.objects.get(name)
        if "ifGenerationMatch" in query:
            if found is None and request.method != "POST":
                return _refused(404)
            if int(query["ifGenerationMatch"]) != (found.generation if found else 0):
                return _refused(412)
        if request.method == "DELETE":
            return _refused(404) if store.objects.pop(name, None) is None else (204, {}, b"")
        if kind == "/upload":
            return _resource(name, store.put(name, data, resource.get("metadata")))
        if kind == "/download":
            return _get(store, name, headers)
        if len(names) == 2:
            source = store.objects.get(names[0])
            if source is None:
                return _refused(404)
            if int(query.get("ifSourceGenerationMatch", source.generation)) != source.generation:
                return _refused(412)
            copied = store.put(name, source.data, source.metadata)
            about = {"done": True, "resource": _described(name, copied)}
            size = {
                "totalBytesRewritten": str(len(source.data)),
                "objectSize": str(len(source.data)),
            }
            return _json({**about, **size})
        if not rest.strip("/"):
            prefix = query.get("prefix", "")
            below = sorted(name for name in store.objects if name.startswith(prefix))
            return _json({"items": [_described(name, store.objects[name]) for name in below]})
        return _refused(404) if found is None else _resource(name, found)

    named = name or query.get("prefix", "")
    return store.asked(Request(request.method or "", named, changes), carry_out)


def _parts(request: requests.PreparedRequest) -> tuple[dict, bytes]:
    """Resource and content of an upload in one request."""
    body = request.body if isinstance(request.body, bytes) else b"".join(request.body)
    boundary = _text(request.headers["Content-Type"]).partition("boundary=")[2].strip("\"'")
    _, first, second, _ = body.split(b"--" + boundary.encode())
    resource, data = (
        part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in (first, second)
    )
    return json.loads(resource), data


def _described(name: str, found: StoredBytes) -> dict[str, object]:
    return {
        "name": name,
        "bucket": "bucket",
        "size": str(len(found.data)),
        "generation": str(found.generation),
        "metageneration": "1",
        "updated": f"{found.updated:%Y-%m-%dT%H:%M:%S.000Z}",
        "crc32c": found.crc32c,
        "metadata": found.metadata,
    }


def _resource(name: str, found: StoredBytes) -> Answer:
    return _json(_described(name, found))


def _json(content: dict[str, object]) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _refused(status: int) -> Answer:
    code = {404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange"}[status]
    return status, {}, f"<Error><Code>{code}</Code></Error>".encode()


def _unchunked(data: bytes) -> bytes:
    """The content of an upload with a checksum at its end, as boto3 sends files."""
    content = b""
    while data:
        line, _, data = data.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        if not size:
            break
        content, data = content + data[:size], data[size + 2 :]
    return content


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
