"""A request over HTTP that ends in time, and that no server sends where nobody asked to go.

A redirect is a wish of the server's: it may point at what only this machine reaches, such as the
cloud's metadata with the machine's credentials, or a service of the loopback that asks for none.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url, requote_uri

from transforms.errors import one_line

MAX_REDIRECTS = 10

_PUBLIC = "a public address"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedRedirectError(Exception):
    """A server redirects to where it may not."""


class TooSlowError(Exception):
    """It is not over at its deadline."""


@contextlib.contextmanager
def get(
    url: str,
    headers: dict[str, str],
    timeout: tuple[float, float],
    deadline: float,
    private_redirects: bool = False,
) -> Iterator[requests.Response]:
    """The response to a GET, its body unread; redirects are followed, but not everywhere.

    Args:
      url: where to begin.
      headers: of each request.
      timeout: longest silence in seconds, until there is a connection, and then.
      deadline: of `time.monotonic`; whatever is not over then is cut, the body too.
      private_redirects: whether a redirect may lead to addresses of this machine, its link or
        private networks also where `url` is of another kind.

    Raises:
      RefusedRedirectError: such an address, HTTP after HTTPS, or too many redirects.
      TooSlowError: the deadline has passed.
      requests.RequestException: as of `requests.get`.
    """
    guard = _Guard(private_redirects)
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), guard.cut)
    timer.daemon = True
    timer.start()
    try:
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, _GuardedAdapter(guard))
            with _followed(session, url, headers, timeout, guard) as response:
                yield response
    except Exception as error:
        if guard.is_cut:
            raise TooSlowError from error
        raise
    finally:
        timer.cancel()
        guard.close()
    if guard.is_cut:  # a body without a length looks as if it had ended there
        raise TooSlowError


@contextlib.contextmanager
def _followed(
    session: requests.Session,
    url: str,
    headers: dict[str, str],
    timeout: tuple[float, float],
    guard: _Guard,
) -> Iterator[requests.Response]:
    auth: Any = None
    for _ in range(MAX_REDIRECTS + 1):
        with session.get(
            url, headers=headers, timeout=timeout, auth=auth, stream=True, allow_redirects=False
        ) as response:
            wish = session.get_redirect_target(response)
            if wish is None:
                yield response
                return
        target = urllib.parse.urljoin(url, requote_uri(wish))
        before, after = urllib.parse.urlsplit(url), urllib.parse.urlsplit(target)
        if before.scheme.lower() == "https" and after.scheme.lower() == "http":
            raise RefusedRedirectError(f"it redirects from HTTPS to HTTP, to {target}")
        if _origin(before) == _origin(after) and not after.username:
            auth = auth or (get_auth_from_url(url) if before.username else None)
        else:
            auth = None
        guard.follow(target, after.hostname)
        url = target
    raise RefusedRedirectError(f"more than {MAX_REDIRECTS} redirects")


def kind_of(address: str) -> str:
    """What an IP address leads to.

    >>> kind_of("169.254.169.254"), kind_of("::ffff:127.0.0.1"), kind_of("64:ff9b::a00:1")
    ("an address of this machine's link", 'an address of this machine', 'a private address')
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    if ip.is_loopback or ip.is_unspecified:
        return "an address of this machine"
    if ip.is_link_local:
        return "an address of this machine's link"
    return _PUBLIC if ip.is_global and not ip.is_multicast else "a private address"


class _Guard:
    """Knows where a request began and where it has been sent, and can cut its connections."""

    def __init__(self, private_redirects: bool):
        self.is_cut = False
        self._anywhere = private_redirects
        self._first: str | None = None
        self._redirect = ""
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def follow(self, target: str, host: str | None) -> None:
        """What connects from now on is a redirect's wish."""
        self._first = self._first or _PUBLIC  # a proxy has looked up its name
        self._redirect = target
        if host in ("localhost", "localhost."):  # that a proxy would look up
            host = "127.0.0.1"
        with contextlib.suppress(ValueError):
            self.check(str(ipaddress.ip_address(host or "")))

    def check(self, address: str) -> None:
        """Refuses an address of a kind that was not asked for."""
        kind = kind_of(address)
        if not self._redirect:
            self._first = kind
        elif kind not in (_PUBLIC, self._first) and not self._anywhere:
            raise RefusedRedirectError(f"it redirects to {self._redirect}: {kind}, {address}")

    def watch(self, connection: socket.socket) -> None:
        """Has `cut` end a connection, also when TLS has taken it over."""
        with self._lock:
            if self.is_cut:
                connection.close()
                raise TooSlowError
            self._sockets.append(socket.socket(fileno=os.dup(connection.fileno())))

    def cut(self) -> None:
        """Ends all connections: whoever reads from one sees its end."""
        with self._lock:
            self.is_cut = True
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Forgets all connections."""
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()


class _GuardedAdapter(HTTPAdapter):
    """Whose connections a guard looks at before anything is sent: a name may mean any address."""

    def __init__(self, guard: _Guard):
        super().__init__()
        self._guard = guard

    def get_connection_with_tls_context(self, *arguments: Any, **named: Any) -> Any:
        """As requests', with connections that are guarded."""
        pool = super().get_connection_with_tls_context(*arguments, **named)
        pool.ConnectionCls = _guarded(pool.ConnectionCls, self._guard, pool.proxy is not None)
        return pool


def _guarded(kind: Any, guard: _Guard, by_proxy: bool) -> Any:
    class Guarded(kind):
        def _new_conn(self) -> socket.socket:
            if not by_proxy:  # which looks up the name itself
                with contextlib.suppress(OSError):  # then connecting fails as well
                    for found in socket.getaddrinfo(self._dns_host, self.port):
                        guard.check(str(found[4][0]))
            connection = super()._new_conn()
            try:
                if not by_proxy:  # the name may mean another address by now
                    guard.check(connection.getpeername()[0])
                guard.watch(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    return Guarded


def _origin(parts: urllib.parse.SplitResult) -> tuple[object, ...]:
    return parts.scheme.lower(), parts.hostname, parts.port


def innermost_cause(error: BaseException) -> str:
    """The innermost reason in one line, without the layers that requests and urllib3 put on."""
    while True:
        inner = [reason for reason in error.args if isinstance(reason, BaseException)]
        if isinstance(reason := getattr(error, "reason", None), BaseException):
            inner.append(reason)
        if not inner:
            return re.sub(r"HTTPS?Connection(Pool)?\([^)]*\): ", "", one_line(error))
        error = inner[-1]
