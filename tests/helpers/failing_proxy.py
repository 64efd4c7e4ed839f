"""A proxy before an emulated store, on the loopback, that fails one request as stores do.

    with object_stores.s3() as store, failing_proxy.before(store) as proxy:
        proxy.fail(3)  # the third request from now on is answered with 503 and not passed on
        proxy.fail(3, passed_on=True)  # it is carried out, and answered with 503 nevertheless
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
import urllib.parse
from collections.abc import Iterator

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from tests.helpers.commands import PATIENCE_SECONDS
from tests.helpers.object_stores import Store

_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date"}


class FailingProxy(http.server.ThreadingHTTPServer):
    """Passes requests on to an emulator, but for the one that is to fail.

    Attributes:
      requests: method and path of each since the last `fail`, in order.
      failed: how many were answered with 503 since then.
    """

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = urllib.parse.urlsplit(endpoint)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._lock = threading.Lock()
        self.fail(0)

    def fail(self, number: int, passed_on: bool = False, times: int = 1) -> None:
        """Of the requests from now on the one of this number, from 1, is answered with 503.

        Args:
          number: which; 0 for none.
          passed_on: whether the store gets it and carries it out.
          times: how many in a row.
        """
        with self._lock:
            self.requests: list[str] = []
            self.failed = 0
            self._failing, self._passed_on = range(number, number + times if number else 0), passed_on

    def fate(self, request: str) -> tuple[bool, bool]:
        """Whether the next request is passed on, and whether it is answered with 503."""
        with self._lock:
            self.requests.append(request)
            failing = len(self.requests) in self._failing
            self.failed += failing
            return not failing or self._passed_on, failing


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FailingProxy

    def _handle(self) -> None:
        body = self._body()
        passed_on, failing = self.server.fate(f"{self.command} {self.path}")
        if passed_on:
            upstream = http.client.HTTPConnection(self.server.endpoint.netloc)
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in {"transfer-encoding", "content-length", "expect"}
            }
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            status, sent, content = answer.status, answer.getheaders(), answer.read()
            upstream.close()
        if failing:
            status, sent, content = 503, [], b"try again later"
        self.send_response(status)
        for name, value in sent:
            if name.lower() not in _OF_ONE_CONNECTION:
                self.send_header(name, value)
        length = len(content)
        if self.command == "HEAD" and not failing:
            length = int(dict(sent).get("Content-Length", 0))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _handle

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def before(store: Store) -> Iterator[FailingProxy]:
    """Until the end this process reaches the store through a proxy."""
    proxy = FailingProxy(store.endpoint)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
    thread.start()
    flags = [flag.replace(store.endpoint, proxy.url) for flag in store.flags]
    with pytest.MonkeyPatch.context() as patch:
        if store.uri.startswith("gs://"):
            patch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        patch.setattr(FileSystems, "_pipeline_options", PipelineOptions(flags))
        yield proxy
    proxy.shutdown()
    thread.join(PATIENCE_SECONDS)
    proxy.server_close()
