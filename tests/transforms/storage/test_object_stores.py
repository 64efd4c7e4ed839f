"""Storage on the emulators of real stores, through Beam's own filesystems."""

from __future__ import annotations

import pathlib

import google.auth
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.internal.gcp import auth
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from google.auth.exceptions import DefaultCredentialsError

from tests.helpers import object_stores
from tests.helpers.object_stores import Store
from transforms import storage
from transforms.errors import UserError
from transforms.inputs.listing import list_images
from transforms.storage import clients, retries, s3
from transforms.storage.causes import is_transient


def content(path: str) -> bytes:
    with storage.open_input(path) as file:
        return file.read()


def test_files_are_written_replaced_and_empty(directory: str) -> None:
    path = storage.join(directory, "_SUCCESS")
    for text in ("Zürich 猫", "shorter", "", "again"):
        storage.write_text(path, text)
        assert content(path) == text.encode()
        assert storage.list_names(directory) == ["_SUCCESS"]


def test_parquet_is_read_in_pieces(directory: str) -> None:
    table = pa.table({"id": [f"{n}" for n in range(1000)], "n": range(1000)})
    path = storage.join(directory, "part.parquet")
    storage.write_atomically(path, lambda local: pq.write_table(table, local, row_group_size=100))
    with storage.arrow_input(path) as file:
        assert pq.ParquetFile(file).read_row_group(7, ["n"])["n"].to_pylist() == [*range(700, 800)]


def test_files_are_listed_moved_and_deleted(directory: str) -> None:
    for name in ("a.parquet", "_staging/b.parquet", "_staging/_errors/c.parquet"):
        storage.write_text(storage.join(directory, name), "x")
    storage.write_text(directory + "-other/z", "x")
    assert storage.list_names(directory) == ["_staging", "a.parquet"]
    assert storage.list_names(storage.join(directory, "missing")) == []
    source, target = (storage.join(directory, n) for n in ("_staging/b.parquet", "b.parquet"))
    checksum = storage.checksum(source)
    storage.move([(source, target)])
    storage.move([(source, target)])
    assert storage.checksum(target) == checksum
    assert storage.list_names(directory) == ["_staging", "a.parquet", "b.parquet"]
    for _ in range(2):
        storage.delete([storage.join(directory, name) for name in ("_staging", "a.parquet")])
        assert storage.list_names(directory) == ["b.parquet"]


def test_a_missing_file_is_what_it_is_on_a_disk(directory: str) -> None:
    path = storage.join(directory, "missing")
    assert not storage.exists(path)
    assert storage.modified(path) == 0
    with pytest.raises(FileNotFoundError):
        content(path)


def test_a_large_file_goes_to_s3_in_pieces_that_appear_together(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_LARGEST_REQUEST_BYTES", 2**20)
    monkeypatch.setattr(s3, "_PIECE_BYTES", 5 * 2**20)  # S3 takes no smaller ones
    data = np.random.default_rng(1).bytes(6 * 2**20)

    directory = f"s3://bucket/{tmp_path.name}"

    def pending() -> storage.PendingFile:
        file = storage.PendingFile(f"{directory}/part.parquet")
        pathlib.Path(file.local_path).write_bytes(data)
        return file

    with object_stores.s3():
        assert pending().commit()
        assert not pending().commit()
        storage.move([(f"{directory}/part.parquet", f"{directory}/moved")])
        assert content(f"{directory}/moved") == data
        assert storage.list_names(directory) == ["moved"]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0)


@pytest.mark.usefixtures("at_once")
def test_credentials_that_are_not_taken_are_told_with_what_to_do(store: Store) -> None:
    wanted = "gcloud auth|AWS_PROFILE"
    store.proxy.fail(1, times=99, status=401)
    with pytest.raises(PermissionError, match=f"{store.uri}/a.*({wanted})") as raised:
        storage.exists(f"{store.uri}/a")
    assert is_transient(raised.value)  # they may be renewed
    store.proxy.fail(1, times=99, status=403)
    with pytest.raises(PermissionError, match=f"{store.uri}/a") as raised:
        storage.exists(f"{store.uri}/a")
    assert not is_transient(raised.value)
    assert len(store.proxy.requests) == 1
    store.proxy.fail(0)


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The clients that are created, by their options."""
    made: list[object] = []
    for name in ("_new_gcs_client", "_new_s3_client"):
        create = getattr(clients, name)

        def counted(options: object, create=create) -> object:
            made.append(options)
            return create(options)

        monkeypatch.setattr(clients, name, counted)
    return made


@pytest.mark.usefixtures("at_once")
def test_credentials_that_are_renewed_meanwhile_are_found(
    store: Store, created: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_CLIENT_LASTS_SECONDS", 0.0)  # as after half a minute
    store.proxy.fail(1, times=2, status=401)
    assert not storage.exists(f"{store.uri}/a")
    assert len(created) >= 2  # one for each time that it was refused
    store.proxy.fail(0)


@pytest.mark.usefixtures("at_once")
def test_a_thousand_refusals_do_not_make_a_thousand_clients(
    store: Store, created: list[object]
) -> None:
    store.proxy.fail(1, times=20, status=403)
    for number in range(20):
        with pytest.raises(PermissionError):
            storage.exists(f"{store.uri}/{number}")
    assert len(created) <= 1
    store.proxy.fail(0)


@pytest.mark.usefixtures("at_once")
def test_no_credentials_for_s3_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions([]))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UserError, match=r"inputs s3://photos/2024: cannot be listed.*AWS_PROFILE"):
        list_images(["s3://photos/2024"])


@pytest.mark.usefixtures("at_once")
def test_no_credentials_for_gs_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def none(*_: object, **__: object) -> None:
        looked.append(1)
        raise DefaultCredentialsError("none")

    monkeypatch.setattr(google.auth, "default", none)
    monkeypatch.setattr(auth._Credentials, "_credentials_init", False)
    monkeypatch.setattr(auth._Credentials, "_credentials", None)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")  # nobody listens
    with pytest.raises(UserError, match=r"cannot be listed: gs://photos/2024: .*refused"):
        list_images(["gs://photos/2024"])
    assert looked == [1]
