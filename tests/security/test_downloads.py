"""A server says what a download is, not how long it takes nor where else this machine asks."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import pathlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.helpers.commands import PATIENCE_SECONDS
from tests.helpers.web import Answer, Loopback
from transforms.models import downloads, web
from transforms.models.downloads import DownloadError, UnreachableError, download_url

BODY = b"model" * 100


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Loopback, Loopback]]:
    """Two machines: what is at 127.0.0.2 counts as public here."""
    monkeypatch.setattr(downloads, "RETRY_WAITS_SECONDS", ())
    monkeypatch.setenv("NO_PROXY", "*")
    kind_of = web.kind_of
    monkeypatch.setattr(web, "kind_of", lambda at: kind_of("8.8.8.8" if at == "127.0.0.2" else at))
    both = Loopback("127.0.0.2"), Loopback("127.0.0.1")
    yield both
    for server in both:
        server.close()


def sends(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(BODY)))
    handler.end_headers()
    handler.wfile.write(BODY)


def redirects(target: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()

    return answer


def refused(url: str, path: pathlib.Path, **named: bool) -> str:
    with pytest.raises(DownloadError) as caught:
        download_url(url, str(path / "file"), **named)
    return str(caught.value)


# Where it goes


def test_a_public_server_does_not_send_us_to_this_machine(
    servers: tuple[Loopback, Loopback], tmp_path: pathlib.Path
) -> None:
    public, near = servers
    hidden = near.serves("/hidden", sends)
    port = near.url.rpartition(":")[2]
    for target in (hidden, f"http://localhost:{port}/hidden", f"http://2130706433:{port}/hidden"):
        url = public.serves("/model.tgz", redirects(target))
        assert f"redirects to {target}: an address of this machine" in refused(url, tmp_path)
    far = public.serves("/again.tgz", redirects("/model.tgz"))
    assert "an address of this machine" in refused(far, tmp_path)
    assert near.asked == []
    assert download_url(url, str(tmp_path / "asked"), private_redirects=True)
    assert (tmp_path / "asked").read_bytes() == BODY


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("http://169.254.169.254/latest/meta-data", "an address of this machine's link"),
        ("http://[fe80::1]/", "an address of this machine's link"),
        ("http://[::ffff:169.254.169.254]/", "an address of this machine's link"),
        ("http://10.0.0.1/", "a private address"),
        ("http://192.168.1.1:8080/", "a private address"),
        ("http://100.64.0.1/", "a private address"),
        ("http://[fd00::1]/", "a private address"),
    ],
)
def test_no_server_sends_us_to_the_link_or_to_private_networks(
    servers: tuple[Loopback, Loopback], tmp_path: pathlib.Path, target: str, kind: str
) -> None:
    for server in servers:
        url = server.serves("/model.tgz", redirects(target))
        assert f"redirects to {target}: {kind}" in refused(url, tmp_path)


def test_a_server_of_this_machine_may_redirect_within_it(
    servers: tuple[Loopback, Loopback], tmp_path: pathlib.Path
) -> None:
    public, near = servers
    url = near.serves("/model.tgz", redirects(near.serves("/there", sends)))
    assert download_url(url, str(tmp_path / "file"))
    url = near.serves("/model.tgz", redirects(public.serves("/there", sends)))
    assert download_url(url, str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_name_that_means_another_address_by_now_is_refused(
    servers: tuple[Loopback, Loopback],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    public, near = servers
    port = near.url.rpartition(":")[2]
    near.serves("/hidden", sends)
    url = public.serves("/model.tgz", redirects(f"http://rebound.example:{port}/hidden"))
    looked_up = []
    getaddrinfo = socket.getaddrinfo

    def rebinding(host: str, *arguments: object, **named: object) -> object:
        if host != "rebound.example":
            return getaddrinfo(host, *arguments, **named)
        looked_up.append(host)
        address = "127.0.0.2" if len(looked_up) == 1 else "127.0.0.1"
        return getaddrinfo(address, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert "an address of this machine" in refused(url, tmp_path)
    assert near.asked == []


def certificate(address: str, directory: pathlib.Path) -> str:
    """A key and the certificate that it has signed itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    address_name = x509.IPAddress(ipaddress.ip_address(address))
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([address_name]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return str(path)


@pytest.fixture
def secure(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    path = certificate("127.0.0.2", tmp_path)
    server = Loopback("127.0.0.2")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", path)
    yield server
    server.close()


def test_https_stays_https(
    servers: tuple[Loopback, Loopback],
    secure: Loopback,
    tmp_path: pathlib.Path,
) -> None:
    there = secure.serves("/there", sends)
    assert download_url(secure.serves("/model.tgz", redirects(there)), str(tmp_path / "file"))
    in_clear = servers[0].serves("/there", sends)
    url = secure.serves("/model.tgz", redirects(in_clear))
    told = refused(url, tmp_path, private_redirects=True)
    assert told == f"{url}: it redirects from HTTPS to HTTP, to {in_clear}"
    assert servers[0].asked == []


def test_a_byte_now_and_then_does_not_last_for_ever_with_tls(
    servers: object,
    secure: Loopback,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downloads, "MAX_SECONDS", 0.3)
    start = b"HTTP/1.1 200 OK\r\n\r\n"
    url = secure.serves("/model.tgz", trickles(secure, start, b"x"))
    assert refused(url, tmp_path) == f"{url}: not here after 0.3 s"


def test_a_password_goes_to_the_server_that_it_is_for(
    servers: tuple[Loopback, Loopback], tmp_path: pathlib.Path
) -> None:
    public, _ = servers
    seen = []

    def looks(handler: http.server.BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers["Authorization"])
        sends(handler)

    there = public.serves("/there", looks)
    for server in servers:
        url = server.serves("/model.tgz", redirects(there)).replace("//", "//me:password@")
        assert download_url(url, str(tmp_path / "file"))
    assert seen[0].startswith("Basic ")
    assert seen[1] is None


# How long it takes


def trickles(server: Loopback, start: bytes, piece: bytes) -> Answer:
    """Sends a piece every hundredth of a second for ever."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(start)
        while not server.closing.wait(0.01):
            handler.wfile.write(piece)

    return answer


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),  # as long as the connection
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        (b"HTTP/1.1 302 Found\r\nLocation: ", b"x"),
    ],
    ids=["body", "no length", "chunks", "header", "redirect"],
)
def test_a_byte_now_and_then_does_not_last_for_ever(
    servers: tuple[Loopback, Loopback],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    start: bytes,
    piece: bytes,
) -> None:
    monkeypatch.setattr(downloads, "MAX_SECONDS", 0.3)
    near = servers[1]
    url = near.serves("/model.tgz", trickles(near, start, piece))
    done: list[str] = []
    calls = threading.Thread(target=lambda: done.append(refused(url, tmp_path)), daemon=True)
    calls.start()
    calls.join(PATIENCE_SECONDS)
    assert done == [f"{url}: not here after 0.3 s"]


def test_what_did_not_come_in_time_may_come_another_time(
    servers: tuple[Loopback, Loopback],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downloads, "MAX_SECONDS", 0.0)
    with pytest.raises(UnreachableError):
        download_url(servers[1].serves("/m.tgz", sends), str(tmp_path / "file"))
    monkeypatch.setattr(downloads, "MAX_SECONDS", PATIENCE_SECONDS)
    assert download_url(servers[1].url + "/m.tgz", str(tmp_path / "file"))
