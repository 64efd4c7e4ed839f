"""Staging: every handle's model is here whole and once, or the message says why it is not."""

from __future__ import annotations

import email.utils
import hashlib
import http.server
import io
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

from tests.helpers.commands import PATIENCE_SECONDS, start
from tests.helpers.web import Answer, Loopback
from transforms.errors import Parameter, UserError
from transforms.machine import entries
from transforms.models import downloads, loading, staging
from transforms.models import source as models

MODEL = {
    "saved_model.pb": b"graph" * 500,
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": bytes(range(256)) * 200,
}
STAGE = "import sys; from transforms.models import staging; print(staging.stage(*sys.argv[1:]))"


def archive_of(model: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in model.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = archive_of(MODEL)
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()


def files(directory: str | pathlib.Path) -> dict[str, bytes]:
    paths = [path for path in pathlib.Path(directory).rglob("*") if path.is_file()]
    paths = [path for path in paths if path.name != entries.MARKER]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def write_model(directory: pathlib.Path) -> pathlib.Path:
    for name, content in MODEL.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "RETRY_WAITS_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "cache"


def staged(cache: pathlib.Path) -> list[str]:
    """What is in the cache but for the index."""
    directory = cache / "models"
    names = os.listdir(directory) if directory.exists() else []
    return sorted(name for name in names if name != "index")


@pytest.fixture
def refusal(cache: pathlib.Path) -> Callable[..., str]:
    """Stages what is refused; the message without its subject. Nothing may be kept."""

    def call(handle: str, sha256: str | None = None) -> str:
        before = staged(cache)
        with pytest.raises(UserError) as refused:
            staging.stage(handle, sha256, str(cache))
        error = refused.value
        assert error.subject == Parameter("model", handle)
        assert str(error) == f"model {handle}: {error.message}"
        assert "\n" not in str(error)
        assert staged(cache) == before
        return str(error.message)

    return call


# A real HTTP server


@pytest.fixture
def server() -> Iterator[Loopback]:
    loopback = Loopback()
    yield loopback
    loopback.close()


def sends(body: bytes = ARCHIVE, status: int = 200, **headers: str) -> Answer:
    """An answer with this body, whose `Content-Length` is right unless it is given."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        lengths = {"Content_Length": str(len(body))}
        for name, value in (lengths | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


TRUNCATED = sends(ARCHIVE[:-10], Content_Length=str(len(ARCHIVE)))


def drops(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Closes the connection without a word."""
    handler.connection.close()


def revalidates(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Answers as a server does that knows ETags."""
    if handler.headers["If-None-Match"] == '"one"':
        handler.send_response(304)
        handler.end_headers()
    else:
        sends(ETag='"one"')(handler)


# Over HTTP


@pytest.mark.parametrize("path", ["/model.tar.gz", "/model.tgz", "/model.tar", "/m.TAR.GZ"])
def test_an_archive_is_downloaded_and_unpacked(server: Loopback, cache: pathlib.Path, path: str):
    directory = staging.stage(server.serves(path, sends()), cache_dir=str(cache))
    assert directory == str(cache / "models" / f"sha256-{DIGEST}")
    assert files(directory) == MODEL
    assert staged(cache) == [f"sha256-{DIGEST}"]
    assert [asked for asked, _ in server.asked] == [path]


def test_a_staged_model_is_the_model(
    server: Loopback, cache: pathlib.Path, tiny_model: pathlib.Path
):
    """A real SavedModel: what is staged is what was published, and loads."""
    handle = server.serves("/tiny.tgz", sends(archive_of(files(tiny_model))))
    source = models.ModelSource(name=staging.stage(handle, cache_dir=str(cache)))
    assert models.files_sha256(source) == models.files_sha256(models.ModelSource(str(tiny_model)))
    assert (loading.load_model(source).height, loading.load_model(source).width) == (16, 16)


def test_a_url_with_a_token_is_an_archive_still(server: Loopback, cache: pathlib.Path):
    handle = server.serves("/model.tar.gz", sends()) + "?token=1"
    assert files(staging.stage(handle, cache_dir=str(cache))) == MODEL
    assert server.asked[0][0] == "/model.tar.gz?token=1"


def test_tf_hub_is_asked_for_the_compressed_form(server: Loopback, cache: pathlib.Path):
    handle = server.serves("/google/imagenet/feature_vector/1", sends())
    assert files(staging.stage(handle, cache_dir=str(cache))) == MODEL
    assert server.asked[0][0] == "/google/imagenet/feature_vector/1?tf-hub-format=compressed"


@pytest.mark.parametrize(
    ("handle", "url"),
    [
        ("https://h/m/1", "https://h/m/1?tf-hub-format=compressed"),
        ("https://h/m/1?a=b", "https://h/m/1?a=b&tf-hub-format=compressed"),
        ("https://h/m/1?tf-hub-format=compressed", "https://h/m/1?tf-hub-format=compressed"),
        ("https://h/m.tgz?a", "https://h/m.tgz?a"),
    ],
)
def test_the_query_that_a_url_has_is_kept(handle: str, url: str):
    assert staging.archive_url(handle) == url


def test_a_redirect_is_followed(server: Loopback, cache: pathlib.Path):
    handle = server.serves("/moved/1", sends(b"", 302, Location="/storage/model.tar.gz?key=1"))
    server.serves("/storage/model.tar.gz", sends())
    assert files(staging.stage(handle, cache_dir=str(cache))) == MODEL
    assert [path for path, _ in server.asked] == [
        "/moved/1?tf-hub-format=compressed",
        "/storage/model.tar.gz?key=1",
    ]


def test_endless_redirects_are_an_error(server: Loopback, refusal: Callable[..., str]):
    handle = server.serves("/round.tgz", sends(b"", 302, Location="/round.tgz"))
    assert "redirects" in refusal(handle)


def test_an_archive_is_not_unpacked_on_the_way(server: Loopback, cache: pathlib.Path):
    """Servers that call a .tar.gz gzip-encoded would have clients store another file."""
    handle = server.serves("/model.tar.gz", sends(Content_Encoding="gzip"))
    assert files(staging.stage(handle, DIGEST, str(cache))) == MODEL
    assert server.asked[0][1]["Accept-Encoding"] == "identity"


def test_a_slow_but_steady_server_is_waited_for(
    server: Loopback, cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    """The whole takes longer than the time-out, which is for silence only."""
    monkeypatch.setattr(downloads, "READ_TIMEOUT_SECONDS", 2.0)

    def trickles(handler: http.server.BaseHTTPRequestHandler) -> None:
        sends(b"", Content_Length=str(len(ARCHIVE)))(handler)
        step = len(ARCHIVE) // 60 + 1
        for at in range(0, len(ARCHIVE), step):
            handler.wfile.write(ARCHIVE[at : at + step])
            time.sleep(0.04)

    started = time.monotonic()
    handle = server.serves("/model.tgz", trickles)
    assert files(staging.stage(handle, cache_dir=str(cache))) == MODEL
    assert time.monotonic() - started > 2.0
    assert len(server.asked) == 1


def test_a_silent_server_is_given_up(
    server: Loopback, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(downloads, "READ_TIMEOUT_SECONDS", 0.05)

    def stalls(handler: http.server.BaseHTTPRequestHandler) -> None:
        sends(ARCHIVE[:100], Content_Length=str(len(ARCHIVE)))(handler)
        server.closing.wait(PATIENCE_SECONDS)

    handle = server.serves("/model.tgz", stalls)
    message = refusal(handle)
    assert message.startswith("Read timed out.")
    assert message.endswith("(tried 4 times)")


@pytest.mark.parametrize(
    "trouble",
    [sends(b"", 503), sends(b"", 500), sends(b"", 429), TRUNCATED, drops],
    ids=["503", "500", "429", "truncated", "connection closed"],
)
def test_trouble_that_passes_is_waited_out(
    server: Loopback, cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch, trouble: Answer
):
    waits: list[float] = []
    monkeypatch.setattr(downloads, "RETRY_WAITS_SECONDS", (1.0, 2.0, 4.0))
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    handle = server.serves("/model.tgz", trouble, trouble, sends())
    assert files(staging.stage(handle, cache_dir=str(cache))) == MODEL
    assert len(server.asked) == 3
    assert 0.5 <= waits[0] <= 1.5
    assert 1.0 <= waits[1] <= 3.0
    assert len(waits) == 2
    assert staged(cache) == [f"sha256-{DIGEST}"]


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        ("7", 7.0),
        ("3600", 60.0),
        pytest.param(
            email.utils.formatdate(time.time() + 3600, usegmt=True), 60.0, id="in an hour-60.0"
        ),
        ("soon", 0.0),
        ("²", 0.0),
        ("-1", 0.0),
    ],
)
def test_the_wait_that_a_server_asks_for_is_kept_within_reason(
    server: Loopback,
    cache: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    waited: float,
):
    waits: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    handle = server.serves("/model.tgz", sends(b"", 429, Retry_After=asked), sends())
    staging.stage(handle, cache_dir=str(cache))
    assert waits == [waited]


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        (sends(b"", 503), "the server answers 503 Service Unavailable"),
        (TRUNCATED, f"IncompleteRead({len(ARCHIVE) - 10} bytes read, 10 more expected)"),
        (drops, "Remote end closed connection without response"),
    ],
    ids=["503", "truncated", "connection closed"],
)
def test_trouble_that_stays_is_named(
    server: Loopback, refusal: Callable[..., str], trouble: Answer, cause: str
):
    handle = server.serves("/model.tgz", trouble)
    assert refusal(handle) == f"{cause} (tried 4 times)"
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "Not Found"), (403, "Forbidden"), (304, "Not Modified")]
)
def test_what_another_try_cannot_change_is_said_at_once(
    server: Loopback, refusal: Callable[..., str], status: int, reason: str
):
    handle = server.serves("/google/model/1", sends(b"", status))
    url = f"{handle}?tf-hub-format=compressed"
    assert refusal(handle) == f"{url}: the server answers {status} {reason}"
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_named(server: Loopback, refusal: Callable[..., str]):
    server.close()
    message = refusal(server.url + "/model.tgz")
    assert message.endswith("Connection refused (tried 4 times)")


@pytest.mark.parametrize("url", ["http://", "https:///model.tgz", "http://[::1/model.tgz"])
def test_a_url_that_is_none_is_refused(refusal: Callable[..., str], url: str):
    assert refusal(url)


@pytest.mark.parametrize("headers", [{}, {"Content_Length": "", "Connection": "close"}])
def test_more_than_any_model_has_is_not_downloaded(
    server: Loopback,
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
):
    monkeypatch.setattr(downloads, "MAX_BYTES", 500)
    handle = server.serves("/model.tgz", sends(**headers))
    assert "more than 500 bytes, too many for a model" in refusal(handle)
    assert len(server.asked) == 1


def test_what_is_no_archive_is_refused(server: Loopback, refusal: Callable[..., str]):
    handle = server.serves("/model/1", sends(b"<html>Sign in</html>" * 100))
    assert refusal(handle).startswith("not a .tar or .tar.gz archive")


@pytest.mark.parametrize("name", ["/etc/passwd", "../../escaped"])
def test_an_archive_that_would_write_elsewhere_is_refused(
    server: Loopback, refusal: Callable[..., str], name: str
):
    handle = server.serves("/model.tgz", sends(archive_of(MODEL | {name: b"mine"})))
    assert refusal(handle).startswith(f"member {name!r}: ")


# A pinned digest


def test_the_pinned_archive_is_staged(server: Loopback, cache: pathlib.Path):
    handle = server.serves("/model.tgz", sends())
    assert files(staging.stage(handle, DIGEST.upper(), str(cache))) == MODEL


def test_another_archive_than_the_pinned_one_is_refused(
    server: Loopback, refusal: Callable[..., str]
):
    handle = server.serves("/model.tgz", sends())
    assert refusal(handle, "a" * 64) == (
        f"its SHA-256 is {DIGEST}, but sha256 is {'a' * 64}; nothing has been staged"
    )


def test_a_pinned_archive_in_the_cache_is_used_without_asking(
    server: Loopback, cache: pathlib.Path
):
    handle = server.serves("/model.tgz", sends())
    directory = staging.stage(handle, DIGEST, str(cache))
    server.close()
    assert staging.stage(handle, DIGEST, str(cache)) == directory
    assert len(server.asked) == 1


def test_a_copy_that_is_not_the_pinned_one_does_not_stand_in_for_it(
    server: Loopback, cache: pathlib.Path, refusal: Callable[..., str]
):
    handle = server.serves("/model.tgz", revalidates)
    staging.stage(handle, cache_dir=str(cache))
    assert f"its SHA-256 is {DIGEST}, but" in refusal(handle, "b" * 64)
    server.close()
    assert "Connection refused" in refusal(handle, "b" * 64)


def test_a_pin_that_is_no_digest_is_refused(refusal: Callable[..., str]):
    assert refusal("http://h/model.tgz", "123") == "sha256='123' is not 64 hexadecimal digits"


# A second start


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
def test_an_unchanged_archive_is_not_downloaded_again(
    server: Loopback, cache: pathlib.Path, validator: str
):
    first = sends(**{validator.replace("-", "_"): "seen"})
    handle = server.serves("/model.tgz", first, sends(b"", 304))
    directory = staging.stage(handle, cache_dir=str(cache))
    assert staging.stage(handle, cache_dir=str(cache)) == directory
    condition = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}[validator]
    assert condition not in server.asked[0][1]
    assert server.asked[1][1][condition] == "seen"
    assert staged(cache) == [f"sha256-{DIGEST}"]


def test_a_changed_archive_is_staged_beside_the_old_one(server: Loopback, cache: pathlib.Path):
    changed = MODEL | {"saved_model.pb": b"another graph"}
    new = archive_of(changed)
    handle = server.serves("/model.tgz", sends(ETag='"one"'), sends(new, ETag='"two"'))
    old_directory = staging.stage(handle, cache_dir=str(cache))
    assert files(staging.stage(handle, cache_dir=str(cache))) == changed
    assert files(old_directory) == MODEL
    assert len(staged(cache)) == 2
    staging.stage(handle, cache_dir=str(cache))
    assert server.asked[2][1]["If-None-Match"] == '"two"'


def test_a_deleted_copy_is_downloaded_again(server: Loopback, cache: pathlib.Path):
    handle = server.serves("/model.tgz", revalidates)
    directory = staging.stage(handle, cache_dir=str(cache))
    shutil.rmtree(directory)
    assert files(staging.stage(handle, cache_dir=str(cache))) == MODEL
    assert "If-None-Match" not in server.asked[1][1]


def damage_weights(directory: str) -> None:
    """Flips a bit of the staged model."""
    weights = pathlib.Path(directory, "variables", "variables.data-00000-of-00001")
    weights.write_bytes(bytes([1]) + weights.read_bytes()[1:])


@pytest.mark.parametrize("pin", [None, DIGEST], ids=["by its handle", "pinned"])
@pytest.mark.parametrize("kind", ["url", "local archive"])
def test_a_damaged_copy_is_staged_anew(
    server: Loopback, cache: pathlib.Path, tmp_path: pathlib.Path, kind: str, pin: str | None
):
    handle = str(tmp_path / "model.tar.gz")
    pathlib.Path(handle).write_bytes(ARCHIVE)
    if kind == "url":
        handle = server.serves("/model.tgz", revalidates)
    damage_weights(staging.stage(handle, pin, str(cache)))
    assert files(staging.stage(handle, pin, str(cache))) == MODEL
    assert staged(cache) == [f"sha256-{DIGEST}"]


def test_a_damaged_copy_that_cannot_be_staged_anew_is_named(
    server: Loopback, cache: pathlib.Path, refusal: Callable[..., str]
):
    handle = server.serves("/model.tgz", revalidates)
    directory = staging.stage(handle, cache_dir=str(cache))
    damage_weights(directory)
    server.close()
    message = refusal(handle)
    assert "Connection refused" in message
    assert f"{directory}, the copy from before, is damaged: it is staged anew" in message


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"sha256": 1}', b"\xff"])
def test_a_damaged_index_costs_a_download_only(
    server: Loopback, cache: pathlib.Path, damage: bytes
):
    handle = server.serves("/model.tgz", revalidates)
    staging.stage(handle, cache_dir=str(cache))
    [entry] = (cache / "models" / "index").iterdir()
    entry.write_bytes(damage)
    assert files(staging.stage(handle, cache_dir=str(cache))) == MODEL


@pytest.mark.parametrize("headers", [{}, {"ETag": '"one"'}], ids=["without ETag", "with ETag"])
@pytest.mark.parametrize("trouble", ["down", "503"])
def test_the_copy_is_used_when_the_server_cannot_be_reached(
    server: Loopback,
    cache: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    headers: dict[str, str],
    trouble: str,
):
    handle = server.serves("/model.tgz", sends(**headers), sends(b"", 503))
    directory = staging.stage(handle, cache_dir=str(cache))
    if trouble == "down":
        server.close()
    with caplog.at_level(logging.WARNING, "transforms.models.staging"):
        assert staging.stage(handle, cache_dir=str(cache)) == directory
    [record] = caplog.records
    assert record.getMessage().startswith(f"model {handle}: ")
    assert "using the copy from before" in record.getMessage()


def test_a_model_that_was_withdrawn_is_not_used_silently(
    server: Loopback, cache: pathlib.Path, refusal: Callable[..., str]
):
    handle = server.serves("/model.tgz", sends(), sends(b"", 404))
    staging.stage(handle, cache_dir=str(cache))
    assert "the server answers 404" in refusal(handle)


# Several processes, and processes that are killed


def start_staging(handle: str, cache: pathlib.Path) -> subprocess.Popen[str]:
    """`stage(handle, None, cache)` in a process of its own."""
    program = STAGE.replace("*sys.argv[1:]", "sys.argv[1], None, sys.argv[2]")
    return start([sys.executable, "-c", program, handle, cache], stdout=subprocess.PIPE)


def test_two_processes_that_stage_at_the_same_time_share_one_copy(
    server: Loopback, cache: pathlib.Path
):
    both_asked = threading.Barrier(2)

    def waits_for_both(handler: http.server.BaseHTTPRequestHandler) -> None:
        both_asked.wait(PATIENCE_SECONDS)
        sends()(handler)

    handle = server.serves("/model.tgz", waits_for_both)
    processes = [start_staging(handle, cache) for _ in range(2)]
    directories = [
        process.communicate(timeout=PATIENCE_SECONDS)[0].strip() for process in processes
    ]
    assert [process.returncode for process in processes] == [0, 0]
    assert directories == [str(cache / "models" / f"sha256-{DIGEST}")] * 2
    assert files(directories[0]) == MODEL
    assert staged(cache) == [f"sha256-{DIGEST}"]
    assert len(server.asked) == 2


def test_the_process_that_comes_second_uses_the_copy_of_the_first(
    server: Loopback, cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    handle = server.serves("/model.tgz", sends())
    unpack = staging.archives.unpack

    def unpack_after_another(archive: str, directory: str) -> None:
        unpack(archive, directory)
        unpack(archive, str(cache / "models" / f"sha256-{DIGEST}"))

    monkeypatch.setattr(staging.archives, "unpack", unpack_after_another)
    assert files(staging.stage(handle, cache_dir=str(cache))) == MODEL
    assert staged(cache) == [f"sha256-{DIGEST}"]


def test_a_download_that_was_killed_does_not_count(server: Loopback, cache: pathlib.Path):
    half_sent = threading.Event()

    def stops_half_way(handler: http.server.BaseHTTPRequestHandler) -> None:
        sends(ARCHIVE[: len(ARCHIVE) // 2], Content_Length=str(len(ARCHIVE)))(handler)
        half_sent.set()
        server.closing.wait(PATIENCE_SECONDS)

    handle = server.serves("/model.tgz", stops_half_way, sends())
    process = start_staging(handle, cache)
    assert half_sent.wait(timeout=PATIENCE_SECONDS)
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    assert all(name.startswith(".tmp-") for name in staged(cache))
    assert files(staging.stage(handle, cache_dir=str(cache))) == MODEL


# On this machine


def test_a_local_directory_is_used_where_it_is(
    tmp_path: pathlib.Path, cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    directory = write_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert staging.stage("model", cache_dir=str(cache)) == str(directory)
    assert staging.stage(f"{directory}/", cache_dir=str(cache)) == str(directory)
    assert not any(cache.iterdir())


def test_a_keras_file_is_used_where_it_is(tmp_path: pathlib.Path, cache: pathlib.Path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"zip")
    assert staging.stage(str(path), cache_dir=str(cache)) == str(path)
    assert not any(cache.iterdir())


def test_a_directory_is_pinned_by_its_fingerprint(
    tmp_path: pathlib.Path, cache: pathlib.Path, refusal: Callable[..., str]
):
    directory = str(write_model(tmp_path / "model"))
    digest = models.files_sha256(models.ModelSource(name=directory))
    assert staging.stage(directory, digest, str(cache)) == directory
    assert f"its SHA-256 is {digest}, but" in refusal(directory, "a" * 64)


def test_a_keras_file_is_pinned_by_its_fingerprint(
    tmp_path: pathlib.Path, refusal: Callable[..., str]
):
    path = tmp_path / "model.keras"
    path.write_bytes(b"zip")
    digest = models.files_sha256(models.ModelSource(str(path)))
    assert f"its SHA-256 is {digest}, but" in refusal(str(path), "a" * 64)
    assert staging.stage(str(path), digest) == str(path)


@pytest.mark.parametrize("name", ["model.tar.gz", "model.tgz", "model.tar"])
def test_a_local_archive_is_unpacked_once(tmp_path: pathlib.Path, cache: pathlib.Path, name: str):
    path = tmp_path / name
    path.write_bytes(ARCHIVE)
    directory = staging.stage(str(path), DIGEST, str(cache))
    assert files(directory) == MODEL
    inode = os.stat(directory).st_ino
    assert staging.stage(str(path), None, str(cache)) == directory
    assert os.stat(directory).st_ino == inode
    assert staged(cache) == [f"sha256-{DIGEST}"]


def test_a_local_archive_with_another_digest_is_refused(
    tmp_path: pathlib.Path, refusal: Callable[..., str]
):
    path = tmp_path / "model.tgz"
    path.write_bytes(ARCHIVE)
    assert f"its SHA-256 is {DIGEST}, but sha256 is" in refusal(str(path), "a" * 64)


def test_a_truncated_local_archive_is_refused(
    tmp_path: pathlib.Path, cache: pathlib.Path, refusal: Callable[..., str]
):
    path = tmp_path / "model.tgz"
    path.write_bytes(ARCHIVE[:-100])
    assert "truncated or damaged" in refusal(str(path))
    assert staged(cache) == []


@pytest.mark.parametrize("top", ["model/", "./model/"])
def test_the_only_directory_of_an_archive_is_the_model(
    tmp_path: pathlib.Path, cache: pathlib.Path, top: str
):
    path = tmp_path / "model.tgz"
    path.write_bytes(archive_of({top + name: data for name, data in MODEL.items()} | {"._m": b""}))
    for _ in range(2):
        directory = staging.stage(str(path), cache_dir=str(cache))
        assert os.path.basename(directory) == "model"
        assert files(directory) == MODEL


def test_of_several_directories_none_is_chosen(tmp_path: pathlib.Path, cache: pathlib.Path):
    path = tmp_path / "model.tgz"
    path.write_bytes(archive_of({f"{top}/saved_model.pb": b"" for top in "ab"}))
    names = os.listdir(staging.stage(str(path), cache_dir=str(cache)))
    assert sorted(names) == [entries.MARKER, "a", "b"]


def test_an_empty_name_is_not_the_working_directory(refusal: Callable[..., str]):
    assert refusal("").startswith("the name is empty; a model is")


@pytest.mark.parametrize("name", ["missing", "a/b/c/missing.tgz", "missing.keras", "a/b"])
def test_a_path_that_is_not_there_is_told_what_there_can_be(refusal: Callable[..., str], name: str):
    message = refusal(name)
    assert message.startswith("no such file or directory; a model is a SavedModel's directory")
    for kind in (".keras", ".tar.gz", "gs://", "http(s)://", "TF Hub", "Kaggle"):
        assert kind in message


def test_a_file_of_another_kind_is_told_what_there_can_be(
    tmp_path: pathlib.Path, refusal: Callable[..., str]
):
    path = tmp_path / "model.h5"
    path.write_bytes(b"")
    assert refusal(str(path)).startswith("neither a directory, a .keras file nor an archive; a")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: pathlib.Path):
    path = tmp_path / "model.tgz"
    path.write_bytes(ARCHIVE)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match=f"^model {path}: cannot be staged in {tmp_path}/cache"):
        staging.stage(str(path), cache_dir=str(tmp_path / "cache"))


def test_the_cache_is_that_of_the_built_in_model(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BEAM_IMAGE_FEATURES_CACHE", str(tmp_path / "chosen"))
    path = tmp_path / "model.tgz"
    path.write_bytes(ARCHIVE)
    assert staging.stage(str(path)) == str(tmp_path / "chosen" / "models" / f"sha256-{DIGEST}")


# Kaggle


@pytest.mark.parametrize(
    "handle", ["google/m/tensorFlow2/v", "google/m/tensorFlow2/v/1", "kaggle://google/m/keras/v/2"]
)
def test_kagglehub_is_asked_for_if_it_is_missing(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, handle: str
):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert refusal(handle).endswith("pip install kagglehub")


@pytest.mark.parametrize("prefix", ["", "kaggle://"])
def test_kagglehub_gets_the_handle_without_its_scheme(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, prefix: str
):
    directory = str(write_model(tmp_path / "model"))
    kagglehub = types.ModuleType("kagglehub")
    asked: list[str] = []
    kagglehub.model_download = lambda handle: asked.append(handle) or directory  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", kagglehub)
    assert staging.stage(prefix + "google/m/tensorFlow2/v/1/") == directory
    assert asked == ["google/m/tensorFlow2/v/1"]


@pytest.mark.parametrize("handle", ["kaggle://google/m", "kaggle://a/b/c/d/e", "kaggle://../b/c/d"])
def test_a_kaggle_handle_of_another_shape_is_refused(refusal: Callable[..., str], handle: str):
    assert refusal(handle) == "not kaggle://owner/model/framework/variation[/version]"


@pytest.mark.parametrize("handle", ["../b/c/d", "a/b/c/d/e", "a/b/c/d/1/2", "/a/b/c/d"])
def test_a_path_is_not_taken_for_a_kaggle_handle(refusal: Callable[..., str], handle: str):
    assert refusal(handle).startswith("no such file or directory")


# Beam's filesystems


class Bucket(FileSystem):
    """A store in memory at `bucket://`, for reading, that lists all that begins with a prefix.

    Attributes:
      objects: path to content and time of change.
      opened: what has been read so far.
      down: whether every request fails.
    """

    objects: ClassVar[dict[str, tuple[bytes, float]]] = {}
    opened: ClassVar[list[str]] = []
    down: ClassVar[bool] = False

    @classmethod
    def scheme(cls) -> str:
        return "bucket"

    def join(self, basepath, *paths):
        return "/".join([basepath, *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        if Bucket.down:
            raise BeamIOError("the store is down")
        for path, (content, changed) in self.objects.items():
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, len(content), changed)

    def exists(self, path):
        return any(True for _ in self._list(path))

    def metadata(self, path):
        [found] = [file for file in self._list(path) if file.path == path]
        return found

    def open(self, path, mime_type="", compression_type="auto"):
        assert compression_type == "uncompressed"
        self.opened.append(path)
        return io.BytesIO(self.objects[path][0])

    def _unused(self, *_):
        raise NotImplementedError

    mkdirs = create = copy = rename = size = last_updated = delete = _unused


class Cluster(Bucket):
    """The same at `cluster://`, listed like HDFS: one level, with directories as empty files."""

    @classmethod
    def scheme(cls) -> str:
        return "cluster"

    def has_dirs(self):
        return True

    def _list(self, dir_or_prefix):
        if dir_or_prefix in self.objects:
            raise BeamIOError(f"{dir_or_prefix} is not a directory.")
        listed = {}
        for file in super()._list(dir_or_prefix + "/"):
            name, _, below = file.path[len(dir_or_prefix) + 1 :].partition("/")
            path = f"{dir_or_prefix}/{name}"
            listed[path] = FileMetadata(path, 0, 1.0) if below else file
        yield from listed.values()


@pytest.fixture
def objects() -> Iterator[dict[str, tuple[bytes, float]]]:
    yield Bucket.objects
    Bucket.objects.clear()
    Bucket.opened.clear()
    Bucket.down = False


@pytest.fixture(params=["bucket://b/model[1]", "cluster://h/model"])
def published(request: pytest.FixtureRequest, objects: dict[str, tuple[bytes, float]]) -> str:
    """A model's directory on a store."""
    for name, content in MODEL.items():
        objects[f"{request.param}/{name}"] = (content, 1.0)
    objects[f"{request.param}0/other"] = (b"not of the model", 1.0)
    return request.param


def test_a_directory_is_copied(published: str, cache: pathlib.Path, tmp_path: pathlib.Path):
    directory = staging.stage(published + "/", cache_dir=str(cache))
    digest = models.files_sha256(models.ModelSource(str(write_model(tmp_path / "local"))))
    assert directory == str(cache / "models" / f"sha256-{digest}")
    assert files(directory) == MODEL
    assert staged(cache) == [f"sha256-{digest}"]


def test_markers_of_directories_are_passed_over(
    objects: dict[str, tuple[bytes, float]], published: str, cache: pathlib.Path
):
    if published.startswith("bucket"):
        objects[f"{published}/assets/"] = (b"", 1.0)
    objects[f"{published}/assets.extra/empty.txt"] = (b"", 1.0)
    directory = staging.stage(published, cache_dir=str(cache))
    assert files(directory) == MODEL | {"assets.extra/empty.txt": b""}


def test_an_unchanged_directory_is_not_copied_again(published: str, cache: pathlib.Path):
    directory = staging.stage(published, cache_dir=str(cache))
    assert staging.stage(published, cache_dir=str(cache)) == directory
    assert len(Bucket.opened) == len(MODEL)


def test_a_changed_directory_is_copied_again(
    objects: dict[str, tuple[bytes, float]], published: str, cache: pathlib.Path
):
    staging.stage(published, cache_dir=str(cache))
    objects[f"{published}/saved_model.pb"] = (b"GRAPH" * 500, 2.0)
    directory = staging.stage(published, cache_dir=str(cache))
    assert files(directory) == MODEL | {"saved_model.pb": b"GRAPH" * 500}


def test_a_store_that_tells_no_times_is_read_again(
    objects: dict[str, tuple[bytes, float]], cache: pathlib.Path
):
    objects["bucket://b/model.tgz"] = (ARCHIVE, 0.0)
    staging.stage("bucket://b/model.tgz", cache_dir=str(cache))
    staging.stage("bucket://b/model.tgz", cache_dir=str(cache))
    assert len(Bucket.opened) == 2


def test_a_directory_is_pinned_by_the_fingerprint_of_its_copy(
    published: str, cache: pathlib.Path, tmp_path: pathlib.Path, refusal: Callable[..., str]
):
    digest = models.files_sha256(models.ModelSource(str(write_model(tmp_path / "local"))))
    assert f"its SHA-256 is {digest}, but" in refusal(published, "a" * 64)
    assert files(staging.stage(published, digest, str(cache))) == MODEL


def test_an_archive_on_a_store_is_unpacked(
    objects: dict[str, tuple[bytes, float]], cache: pathlib.Path
):
    objects["bucket://b/model.tar.gz"] = (ARCHIVE, 1.0)
    for _ in range(2):
        directory = staging.stage("bucket://b/model.tar.gz", cache_dir=str(cache))
        assert directory == str(cache / "models" / f"sha256-{DIGEST}")
        assert files(directory) == MODEL
    assert len(Bucket.opened) == 1


@pytest.mark.parametrize("handle", ["bucket://b/m", "bucket://b/m.tgz"])
def test_the_copy_is_used_when_the_store_cannot_be_read(
    objects: dict[str, tuple[bytes, float]],
    cache: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    refusal: Callable[..., str],
    handle: str,
):
    objects["bucket://b/m/saved_model.pb"] = (b"graph", 1.0)
    objects["bucket://b/m.tgz"] = (ARCHIVE, 1.0)
    directory = staging.stage(handle, cache_dir=str(cache))
    Bucket.down = True
    with caplog.at_level(logging.WARNING, "transforms.models.staging"):
        assert staging.stage(handle, cache_dir=str(cache)) == directory
    assert "the store is down" in caplog.text
    assert "the store is down" in refusal("bucket://b/another.tgz")


def test_a_short_read_does_not_count(
    objects: dict[str, tuple[bytes, float]],
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
):
    objects["bucket://b/m.tgz"] = (ARCHIVE, 1.0)
    monkeypatch.setattr(Bucket, "open", lambda *_, **__: io.BytesIO(ARCHIVE[:100]))
    assert refusal("bucket://b/m.tgz") == (
        f"bucket://b/m.tgz ends after 100 of {len(ARCHIVE):,} bytes"
    )


def test_what_is_not_on_a_store_is_named(
    objects: dict[str, tuple[bytes, float]], refusal: Callable[..., str]
):
    objects["bucket://b/photos/1/a.jpg"] = (b"", 1.0)
    objects["bucket://b/photos/b.jpg"] = (b"", 1.0)
    assert refusal("bucket://b/m.tgz") == "no such file"
    assert refusal("bucket://b/empty") == "no saved_model.pb in it; it holds nothing"
    assert refusal("bucket://b/photos") == "no saved_model.pb in it; it holds 1, b.jpg"


def test_a_directory_that_is_too_large_is_not_copied(
    published: str, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(downloads, "MAX_BYTES", 1000)
    assert refusal(published) == "more than 1,000 bytes, too many for a model"
    assert Bucket.opened == []


def test_an_object_whose_name_leads_elsewhere_is_refused(
    objects: dict[str, tuple[bytes, float]], refusal: Callable[..., str]
):
    objects["bucket://b/m/saved_model.pb"] = (b"graph", 1.0)
    objects["bucket://b/m/../../escaped"] = (b"mine", 1.0)
    assert "bucket://b/m/../../escaped" in refusal("bucket://b/m")


@pytest.mark.parametrize("handle", ["ftp://h/model.tgz", "file:///tmp/model", "C://model"])
def test_an_unknown_scheme_is_told_what_there_can_be(refusal: Callable[..., str], handle: str):
    message = refusal(handle)
    assert message.startswith(f"{handle.split(':')[0].lower()}:// is not known here")
    assert "a model is a SavedModel's directory" in message


@pytest.mark.parametrize("handle", ["bucket://b/m.keras", "https://h/m.keras"])
def test_a_keras_file_elsewhere_is_to_be_copied_first(refusal: Callable[..., str], handle: str):
    assert refusal(handle) == "a .keras file must be on a local disk; copy it there first"
