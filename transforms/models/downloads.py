"""Brings files to this machine, over HTTP or from Beam's filesystems, and tells their digest.

Both ways give validators, with which the next call can tell that nothing has changed.
"""

from __future__ import annotations

import dataclasses
import email.utils
import glob
import hashlib
import json
import os
import random
import time
from collections.abc import Iterator
from typing import NamedTuple

import requests
import urllib3
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from transforms import storage
from transforms.errors import one_line
from transforms.models import web

CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 60.0
"""Longest silence of a server; a slow one that keeps sending is fine until `MAX_SECONDS`."""
MAX_SECONDS = 3600.0
"""Of a whole download, with all tries and waits."""
RETRY_WAITS_SECONDS: tuple[float, ...] = (1.0, 2.0, 4.0)
"""Waits between the tries, each times a random 0.5 to 1.5; one try more than there are waits."""
MAX_RETRY_AFTER_SECONDS = 60.0
MAX_BYTES = 20 * 2**30

_TRANSIENT_STATUSES = frozenset({408, 425, 429})
_BLOCK_BYTES = 2**20


class DownloadError(Exception):
    """What was asked for cannot be had.

    Args:
      problem: why.
      uri: what was asked for, where the problem does not say it.
    """

    def __init__(self, problem: str, uri: str = ""):
        super().__init__(problem, uri)
        self.problem = problem
        self.uri = uri

    def __str__(self) -> str:
        return f"{self.uri}: {self.problem}" if self.uri else self.problem


class UnreachableError(DownloadError):
    """The same request may succeed at another time."""


class _TransientError(Exception):
    def __init__(self, message: str, retry_after_seconds: float = 0.0):
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclasses.dataclass(frozen=True)
class Download:
    """What was downloaded.

    Attributes:
      sha256: of its bytes, in hexadecimal digits.
      validators: what tells whether it has changed since: `ETag` and `Last-Modified` of HTTP, or
        `listing`, a digest of names, sizes and times. Empty if that cannot be told.
    """

    sha256: str
    validators: dict[str, str]


# HTTP


def download_url(
    url: str, path: str, validators: dict[str, str] | None = None, private_redirects: bool = False
) -> Download | None:
    """Downloads `url` to the local file `path`, as the server stores it.

    Connection errors, time-outs, bodies that end early and the statuses 408, 425, 429 and 5xx are
    tried again after the waits of `RETRY_WAITS_SECONDS`, or what `Retry-After` asks for.

    Args:
      url: `http://` or `https://`. Proxies and certificates are those of the environment.
      path: overwritten; incomplete where this raises.
      validators: of an earlier download, to be told of a change only.
      private_redirects: as in `web.get`.

    Returns:
      None if nothing has changed since `validators`; then `path` means nothing.

    Raises:
      UnreachableError: the last try failed, too, or `MAX_SECONDS` are over.
      DownloadError: any other status or redirect, an unusable URL, or more than `MAX_BYTES`.
      OSError: `path` cannot be written.
    """
    waits = list(RETRY_WAITS_SECONDS)
    deadline = time.monotonic() + MAX_SECONDS
    while True:
        try:
            return _try_once(url, path, validators or {}, deadline, private_redirects)
        except _TransientError as error:
            if not waits:
                tries = len(RETRY_WAITS_SECONDS) + 1
                raise UnreachableError(f"{error} (tried {tries} times)", url) from error
            time.sleep(max(waits.pop(0) * random.uniform(0.5, 1.5), error.retry_after_seconds))


def _try_once(
    url: str, path: str, validators: dict[str, str], deadline: float, private_redirects: bool
) -> Download | None:
    headers = {"Accept-Encoding": "identity"}  # the archive itself, not packed once more
    conditions = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
    headers |= {conditions[name]: value for name, value in validators.items()}
    timeout = (CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS)
    try:
        with web.get(url, headers, timeout, deadline, private_redirects) as response:
            if response.status_code == 304 and validators:
                return None
            _check_status(url, response)
            sha256 = _save(url, response, path)
            seen = {name: response.headers[name] for name in conditions if name in response.headers}
            return Download(sha256, seen)
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _TransientError(web.innermost_cause(error)) from error
    except web.TooSlowError as error:
        raise UnreachableError(f"not here after {MAX_SECONDS:,g} s", url) from error
    except (requests.RequestException, web.RefusedRedirectError, ValueError) as error:
        raise DownloadError(one_line(error), url) from error  # a malformed URL is one of them


def _check_status(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    message = f"the server answers {status} {response.reason or ''}".rstrip()
    if status >= 500 or status in _TRANSIENT_STATUSES:
        raise _TransientError(message, _retry_after_seconds(response))
    raise DownloadError(message, url)


def _retry_after_seconds(response: requests.Response) -> float:
    """What the server asks to wait, given in seconds or as a date; 0 if it does not say."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        seconds = float(value)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            seconds = 0.0
    return max(0.0, min(seconds, MAX_RETRY_AFTER_SECONDS))


def _save(url: str, response: requests.Response, path: str) -> str:
    """Writes the body to `path`; its SHA-256."""
    announced = response.headers.get("Content-Length", "")
    length = int(announced) if announced.isdecimal() else None
    digest = hashlib.sha256()
    received = 0
    with open(path, "wb") as file:
        too_long = length is not None and length > MAX_BYTES
        for chunk in () if too_long else response.raw.stream(_BLOCK_BYTES, decode_content=False):
            received += len(chunk)
            too_long = received > MAX_BYTES
            if too_long:
                break
            digest.update(chunk)
            file.write(chunk)
    if too_long:
        raise DownloadError(f"more than {MAX_BYTES:,} bytes, too many for a model", url)
    if length is not None and received != length:
        raise _TransientError(f"the body ends after {received:,} of {length:,} bytes")
    return digest.hexdigest()


# Beam's filesystems


def is_known_scheme(uri: str) -> bool:
    """Whether one of Beam's filesystems that are installed and set up here can read `uri`."""
    try:
        FileSystems.get_filesystem(uri)
    except (ValueError, ImportError, BeamIOError):
        return False
    return True


def download_file(uri: str, path: str, validators: dict[str, str] | None = None) -> Download | None:
    """Like `download_url`, for a file on one of Beam's filesystems, which try again themselves."""
    files = _listing(glob.escape(uri))
    if not files:
        raise DownloadError("no such file")
    found = _check_listing(files)
    return None if found and found == validators else Download(_copy(files[0], path), found)


def download_directory(
    uri: str, directory: str, validators: dict[str, str] | None = None
) -> dict[str, str] | None:
    """Downloads a SavedModel's directory from one of Beam's filesystems into a new directory.

    Returns:
      Its validators, or None if nothing has changed since `validators`.

    Raises:
      UnreachableError: the store cannot be read.
      DownloadError: there is no `saved_model.pb`, or more than `MAX_BYTES`.
    """
    files = {file.path[len(uri) + 1 :]: file for file in _files_below(uri)}
    if "saved_model.pb" not in files:
        names = ", ".join(sorted({name.split("/")[0] for name in files})[:10])
        raise DownloadError(f"no saved_model.pb in it; it holds {names or 'nothing'}")
    found = _check_listing(list(files.values()))
    if found and found == validators:
        return None
    for name, file in files.items():
        if {"", ".", ".."} & set(name.split("/")):
            raise DownloadError(f"the name of {file.path} is none that a file can have here")
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _copy(file, path)
    return found


class _File(NamedTuple):
    path: str
    size: int
    version: str  # "" where the filesystem does not know when it was written


def _listing(pattern: str) -> list[_File]:
    try:
        found = [
            _File(p, f.size, f.version if f.modified else "") for p, f in storage.match(pattern)
        ]
    except OSError as error:
        raise UnreachableError(f"cannot be listed: {one_line(error)}") from error
    return [file for file in found if not file.path.endswith("/")]


def _files_below(directory: str) -> Iterator[_File]:
    """All files, also where a filesystem lists one level at a time, directories included (HDFS)."""
    has_dirs = FileSystems.get_filesystem(directory).has_dirs()
    for file in _listing(glob.escape(directory) + "/**"):
        if file.size or not has_dirs:
            yield file
            continue
        try:
            yield from _files_below(file.path)
        except UnreachableError as error:
            # The client of HDFS tells it in its text alone: its errors have one type and no code.
            if "not a directory" not in error.problem:
                raise
            yield file


def _check_listing(files: list[_File]) -> dict[str, str]:
    """Validators for these files, none of whose bytes have been read."""
    if sum(file.size for file in files) > MAX_BYTES:
        raise DownloadError(f"more than {MAX_BYTES:,} bytes, too many for a model")
    rows = sorted(files)
    if not all(file.version for file in rows):
        return {}
    return {"listing": hashlib.sha256(json.dumps(rows).encode()).hexdigest()}


def _copy(file: _File, path: str) -> str:
    """Copies a file to `path`; its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as target:
        for block in _blocks(file):
            digest.update(block)
            target.write(block)
    return digest.hexdigest()


def _blocks(file: _File) -> Iterator[bytes]:
    received = 0
    try:
        with storage.open_input(file.path) as source:
            while block := source.read(_BLOCK_BYTES):
                received += len(block)
                yield block
    except Exception as error:  # every store has exceptions of its own
        raise UnreachableError(f"{file.path} cannot be read: {one_line(error)}") from error
    if received != file.size:
        raise UnreachableError(f"{file.path} ends after {received:,} of {file.size:,} bytes")
