"""Storage on the emulators of real stores, through Beam's own filesystems."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers import object_stores
from transforms import storage


@pytest.fixture(scope="module", params=[object_stores.gcs, object_stores.s3])
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    with request.param() as store:
        yield store.uri


@pytest.fixture
def directory(bucket: str, tmp_path: pathlib.Path) -> str:
    return storage.join(bucket, tmp_path.name)


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
