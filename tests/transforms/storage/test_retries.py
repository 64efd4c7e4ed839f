"""What passes is tried again, what does not is not: a real server that fails as servers do."""

from __future__ import annotations

import collections
import http.server
import io
import pathlib
import socket
import struct
import threading
import urllib.request
from collections.abc import Iterator

import pytest
import tensorflow as tf
from apache_beam.io.filesystem import FileMetadata, FileSystem

from tests.helpers.commands import PATIENCE_SECONDS
from tests.helpers.images import write_random_images
from transforms.batches import ImageBatch
from transforms.errors import ErrorRow
from transforms.images.read_ahead import decode_shard
from transforms.images.spec import ImageSpec
from transforms.inputs.listing import list_images
from transforms.refs import ImageRef
from transforms.shards import Shard
from transforms.storage import retries

SPEC = ImageSpec(16, 16)
RESET, HANG = "reset", "hang"


class Server(http.server.ThreadingHTTPServer):
    """Answers with files, after the failures that a test wants first.

    Attributes:
      files: content by path.
      failures: by path, what each of the first requests gets: a status, RESET or HANG.
      requests: how many came for each path.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.failures: dict[str, list[int | str]] = {}
        self.requests: collections.Counter[str] = collections.Counter()
        self.stopped = threading.Event()

    def uri(self, path: str) -> str:
        return f"flaky://127.0.0.1:{self.server_address[1]}{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests[self.path] += 1
        failures = self.server.failures.get(self.path, [])
        failure = failures.pop(0) if failures else 200
        if failure == RESET:
            linger = struct.pack("ii", 1, 0)  # close sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        elif failure == HANG:
            self.server.stopped.wait(PATIENCE_SECONDS)
        else:
            self.send_response(int(failure))
            self.end_headers()
            if failure == 200:
                self.wfile.write(self.server.files[self.path])

    def log_message(self, *_: object) -> None:
        pass


class FlakyFileSystem(FileSystem):
    """`flaky://host:port/path`, read by HTTP as a whole, with the errors of urllib."""

    @classmethod
    def scheme(cls) -> str:
        return "flaky"

    def open(self, path, mime_type="", compression_type="auto"):
        with urllib.request.urlopen("http" + path.removeprefix("flaky"), timeout=0.5) as answer:
            return io.BytesIO(answer.read())

    def exists(self, path: str) -> bool:
        return True

    def match(self, patterns, limits=None):
        raise NotImplementedError

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        raise NotImplementedError

    join = split = mkdirs = has_dirs = create = copy = rename = size = last_updated = None
    checksum = metadata = delete = None


# A Beam FileSystem has many abstract methods; these are not reached here.
FlakyFileSystem.__abstractmethods__ = frozenset()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.stopped.set()
    server.shutdown()
    thread.join(PATIENCE_SECONDS)
    server.server_close()


@pytest.fixture
def image(tmp_path: pathlib.Path) -> bytes:
    [path] = write_random_images(tmp_path, 1)
    return path.read_bytes()


def decode(refs: list[ImageRef]) -> tuple[list[str], list[ErrorRow]]:
    """Ids of the rows, and the error rows."""
    batches: list[ImageBatch] = list(decode_shard(Shard(tuple(refs)), SPEC, 4))
    rows = [row.ref.id for batch in batches for row in batch.rows]
    return rows, [error for batch in batches for error in batch.errors]


def refs_of(server: Server, *paths: str) -> list[ImageRef]:
    return [ImageRef(server.uri(path), server.uri(path), "1") for path in paths]


@pytest.mark.parametrize(
    "failures", [[503] * 2, [401], [429], [500, 502, 504], [RESET] * 2, [HANG]]
)
def test_what_passes_is_read_in_the_end(
    server: Server, image: bytes, failures: list[int | str]
) -> None:
    server.files["/a.png"] = image
    server.failures["/a.png"] = list(failures)
    [ref] = refs_of(server, "/a.png")
    assert decode([ref]) == ([ref.id], [])
    assert server.requests["/a.png"] == len(failures) + 1


@pytest.mark.parametrize("status", [400, 403, 404, 410, 501])
def test_what_does_not_pass_is_asked_for_once(server: Server, image: bytes, status: int) -> None:
    server.files = {"/good.png": image, "/bad.png": image}
    server.failures["/bad.png"] = [status] * 9
    good, bad = refs_of(server, "/good.png", "/bad.png")
    rows, [error] = decode([bad, good])
    assert rows == [good.id]
    assert server.requests["/bad.png"] == 1
    assert (error.id, error.stage, error.transient) == (bad.id, "read", False)


def test_a_server_that_stays_busy_is_an_error_row_marked_transient(
    server: Server, image: bytes
) -> None:
    server.files = {"/good.png": image, "/busy.png": image}
    server.failures["/busy.png"] = [503] * 99
    good, busy = refs_of(server, "/good.png", "/busy.png")
    rows, [error] = decode([good, busy])
    assert rows == [good.id]
    assert server.requests["/busy.png"] == retries.ATTEMPTS
    assert (error.id, error.stage, error.transient) == (busy.id, "read", True)
    assert "503" in error.message


def test_a_damaged_image_is_read_once_and_not_transient(server: Server, image: bytes) -> None:
    server.files["/cut.png"] = image[:-40]
    rows, [error] = decode(refs_of(server, "/cut.png"))
    assert (rows, server.requests["/cut.png"]) == ([], 1)
    assert (error.stage, error.transient) == ("decode", False)


@pytest.fixture
def records(server: Server, image: bytes, tmp_path: pathlib.Path) -> list[ImageRef]:
    """The records of a TFRecord file on the server."""
    path = tmp_path / "a.tfrecord"
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    example = tf.train.Example(
        features=tf.train.Features(feature={"image/encoded": feature})
    ).SerializeToString()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(6):
            writer.write(example)
    server.files["/a.tfrecord"] = path.read_bytes()
    return [
        ImageRef(
            f"{number}",
            server.uri("/a.tfrecord"),
            "",
            size=ref.size,
            record_index=ref.record_index,
            offset=ref.offset,
        )
        for number, ref in enumerate(list_images([str(path)]).refs)
    ]


def test_records_are_read_in_the_end(server: Server, records: list[ImageRef]) -> None:
    server.failures["/a.tfrecord"] = [503, RESET]
    assert decode(records) == ([ref.id for ref in records], [])


def test_a_server_that_is_away_costs_the_waiting_once_and_not_for_each_record(
    server: Server, records: list[ImageRef]
) -> None:
    server.failures["/a.tfrecord"] = [503] * 99
    rows, errors = decode(records)
    assert rows == []
    assert [error.id for error in errors] == [ref.id for ref in records]
    assert all(error.transient for error in errors)
    assert server.requests["/a.tfrecord"] == retries.ATTEMPTS + len(records) - 1
