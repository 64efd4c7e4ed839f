"""Web servers on the loopback: one of files, and one that answers as it is told."""

from __future__ import annotations

import contextlib
import functools
import http.server
import pathlib
import threading
from collections.abc import Callable, Iterator

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def web_server(directory: pathlib.Path) -> Iterator[str]:
    """Serves a directory; yields its URL without a slash at the end."""
    handler = functools.partial(_Files, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Loopback:
    """An HTTP server on this machine whose answers a test writes down.

    Args:
      address: one of this machine's loopback addresses.

    Attributes:
      answers: for each path (without query), what comes first, second, …; the last one stays.
      asked: path (with query) and headers of every request so far.
      closing: is set when it is closed, for answers that wait.
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append((self.path, dict(self.headers)))
                answers = server.answers[self.path.split("?")[0]]
                with contextlib.suppress(OSError):  # who asked may be gone
                    (answers.pop(0) if len(answers) > 1 else answers[0])(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://{address}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()

    def serves(self, path: str, *answers: Answer) -> str:
        """Sets what a path is answered; its URL."""
        self.answers[path] = list(answers)
        return self.url + path

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
