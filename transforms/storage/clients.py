"""The stores' own clients, one of each in a process, with Beam's credentials and options.

Beam's filesystems make a client for each call: two connections for each object, and no conditions.
These do not repeat a call by themselves: who calls them does, by the table in `causes`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import google.auth
import requests
from apache_beam.internal.gcp import auth
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.gcp.gcsio import create_storage_client
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, S3Options
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

from transforms.storage.causes import http_status
from transforms.storage.retries import retrying

_CONNECTIONS = 64

# Credentials that are refused are looked for anew, but not at each of a million refusals.
_CLIENT_LASTS_SECONDS = 30.0

_CONNECT_SECONDS = 10
_READ_SECONDS = 60

_WITHOUT_CREDENTIALS = frozenset(
    {
        "CredentialRetrievalError",
        "InvalidOperation",  # what google-auth says to a 401 without any
        "NoCredentialsError",
        "RefreshError",
        "TokenRetrievalError",
    }
)
_LOG_IN = {
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
}

T = TypeVar("T")

_lock = threading.Lock()
_clients: dict[str, _Known] = {}


class _Known(NamedTuple):
    """A client, what it was made for and when."""

    key: tuple[object, ...]
    options: object
    client: Any
    since: float


def gcs_client() -> Any:
    """The `google.cloud.storage.Client` of this process."""
    options: Any = FileSystems.get_filesystem("gs://bucket")
    return _client("gs", options._pipeline_options, _new_gcs_client)


def s3_client() -> Any:
    """The boto3 client of this process."""
    options: Any = FileSystems.get_filesystem("s3://bucket")
    return _client("s3", options._options, _new_s3_client)


def bucket_and_name(path: str) -> tuple[str, str]:
    """Bucket and object of `gs://bucket/object` or `s3://bucket/object`.

    >>> bucket_and_name("gs://photos/2024/a.jpg"), bucket_and_name("s3://photos")
    (('photos', '2024/a.jpg'), ('photos', ''))
    """
    bucket, _, name = path.partition("://")[2].partition("/")
    return bucket, name


@contextlib.contextmanager
def errors_as_oserrors(path: str) -> Iterator[None]:
    """What the stores' libraries raise becomes an OSError, as it is for local files.

    Raises:
      FileNotFoundError: HTTP status 404.
      PermissionError: HTTP status 401 or 403, or there are no credentials.
      OSError: any other; its cause is the library's error.
    """
    try:
        yield
    except Exception as error:
        of_a_library = isinstance(error, (requests.RequestException, GoogleAuthError))
        if isinstance(error, (OSError, ValueError, MemoryError)) and not of_a_library:
            raise
        status = 401 if type(error).__name__ in _WITHOUT_CREDENTIALS else http_status(error)
        if status in (None, 400, 401, 403):
            _forget_clients()  # the next call finds credentials that were renewed meanwhile
        kinds = {401: PermissionError, 403: PermissionError, 404: FileNotFoundError}
        raise kinds.get(status or 0, OSError)(f"{path}: {_told(path, error, status)}") from error


def _told(path: str, error: Exception, status: int | None) -> str:
    """What is wrong, and what to do where credentials are missing."""
    refused = getattr(error.args[0], "reason", None) if error.args else None
    text = str(refused or error)  # of a server that is not reached: why, without the request
    if status == 401:
        text = f"{text.rstrip('.')}; {_LOG_IN.get(path.partition(':')[0], 'log in')}"
    return text


def asking(path: str, call: Callable[[], T], attempts: int | None = None) -> T:
    """What `call` gives, which asks a store, again after what passes; its errors are OSErrors.

    Args:
      path: what messages speak of.
      call: each time it finds the client anew, and so credentials that were renewed.
      attempts: as in `retrying`.

    Raises:
      OSError: as in `errors_as_oserrors`.
    """

    def attempt() -> T:
        with errors_as_oserrors(path):
            return call()

    return retrying(attempt, attempts)


def _client(scheme: str, options: object, create: Callable[[Any], Any]) -> Any:
    """The client of this process for these options; tests have emulators that come and go."""
    key = (os.getpid(), id(options), os.environ.get("STORAGE_EMULATOR_HOST"))
    with _lock:
        known = _clients.get(scheme)
        if known is None or known.key != key:
            known = _clients[scheme] = _Known(key, options, create(options), time.monotonic())
        return known.client


def _forget_clients() -> None:
    with _lock:
        for scheme, known in list(_clients.items()):
            if time.monotonic() - known.since >= _CLIENT_LASTS_SECONDS:
                del _clients[scheme]


def _new_gcs_client(options: Any) -> Any:
    if not isinstance(options, PipelineOptions):
        options = PipelineOptions.from_dictionary(options or {})
    _find_credentials_once(options)
    client = create_storage_client(options)
    client._bucket_metadata_cache = None  # for traces; it asks for the bucket in a thread
    adapter = _Adapter(pool_maxsize=_CONNECTIONS)
    for scheme in ("https://", "http://"):
        client._http.mount(scheme, adapter)
    return client


def _find_credentials_once(options: PipelineOptions) -> None:
    """Beam looks five times, for half a minute and more, where a machine has no credentials."""
    with auth._Credentials._credentials_lock:
        if not auth._Credentials._credentials_init:
            try:
                google.auth.default(options.view_as(GoogleCloudOptions).gcp_oauth_scopes)
            except DefaultCredentialsError:
                auth._Credentials._credentials_init = True  # anonymous, as after Beam's search


class _Adapter(requests.adapters.HTTPAdapter):
    """Does not wait a minute for a connection."""

    def send(self, *arguments: Any, **settings: Any) -> requests.Response:
        return super().send(*arguments, **settings | {"timeout": (_CONNECT_SECONDS, _READ_SECONDS)})


def _new_s3_client(options: Any) -> Any:
    try:
        import boto3
        import botocore.config
    except ImportError as error:
        raise OSError("s3:// needs boto3, of the extra `s3`") from error

    view = options.view_as(S3Options) if isinstance(options, PipelineOptions) else None
    given = view.get_all_options() if view else dict(options or {})
    config = botocore.config.Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=_CONNECTIONS,
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        tcp_keepalive=True,
    )
    return boto3.session.Session().client(
        "s3",
        region_name=given.get("s3_region_name"),
        api_version=given.get("s3_api_version"),
        use_ssl=not given.get("s3_disable_ssl"),
        verify=given.get("s3_verify"),
        endpoint_url=given.get("s3_endpoint_url"),
        aws_access_key_id=given.get("s3_access_key_id"),
        aws_secret_access_key=given.get("s3_secret_access_key"),
        aws_session_token=given.get("s3_session_token"),
        config=config,
    )


def _parse_models_once() -> None:
    """Makes a call of Beam's to S3 cost 0.015 s of CPU time instead of 0.08 s.

    Beam makes a client for each call, and each would parse botocore's description of S3 anew.
    """
    with contextlib.suppress(ImportError):
        import botocore.session

        botocore.session.create_loader = functools.cache(botocore.session.create_loader)


_parse_models_once()
