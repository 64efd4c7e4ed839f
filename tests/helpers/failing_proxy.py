"""A proxy on the loopback, before each emulated store: it can fail requests as stores do.

with object_stores.s3() as store:
    store.proxy.fail(3)  # the third request from now on is answered with 503, not passed on
    store.proxy.fail(3, passed_on=True)  # carried out, and answered with 503 nevertheless
    store.proxy.fail(3, times=99)  # from the third one on the store is away
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading

from tests.helpers.commands import PATIENCE_SECONDS

_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date"}


class FailingProxy(http.server.ThreadingHTTPServer):
    """Passes requests on, but for those that are to fail.

    Args:
      endpoint: host and port of the store.
      one_at_a_time: for a store that looks and then writes where the real one does both at once.

    Attributes:
      url: where it listens.
      requests: method and path of each request since the last `fail`, in order.
      failed: how many were answered with an error since then.
    """

    daemon_threads = True

    def __init__(self, endpoint: str, one_at_a_time: bool = False):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = endpoint
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.turn = threading.Lock() if one_at_a_time else contextlib.nullcontext()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.fail(0)

    def __enter__(self) -> FailingProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join(PATIENCE_SECONDS)
        self.server_close()

    def fail(self, number: int, passed_on: bool = False, times: int = 1, status: int = 503) -> None:
        """Of the requests from now on the one of this number, from 1, is answered with an error.

        Args:
          number: which; 0 for none.
          passed_on: whether the store gets it and carries it out.
          times: how many in a row.
          status: of the answer.
        """
        with self._lock:
            self.requests: list[str] = []
            self.failed = 0
            self._failing = range(number, number + times if number else 0)
            self._passed_on = passed_on
            self.status = status

    def fate(self, request: str) -> tuple[bool, bool]:
        """Whether the next request is passed on, and whether it is answered with an error."""
        with self._lock:
            self.requests.append(request)
            failing = len(self.requests) in self._failing
            self.failed += failing
            return not failing or self._passed_on, failing


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits for 40 ms
    server: FailingProxy

    def _handle(self) -> None:
        body = self._body()
        passed_on, failing = self.server.fate(f"{self.command} {self.path}")
        if passed_on:
            upstream = http.client.HTTPConnection(self.server.endpoint)
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in {"transfer-encoding", "content-length", "expect"}
            }
            with self.server.turn, contextlib.closing(upstream):
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
                status, sent, content = answer.status, answer.getheaders(), answer.read()
        if failing:
            status, sent, content = self.server.status, [], b"no"
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

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

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
