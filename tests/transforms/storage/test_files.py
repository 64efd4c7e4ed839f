"""Storage: a file is there as a whole or not at all, on a local disk and in an object store."""

from __future__ import annotations

import gzip
import os
import pathlib
import stat
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.memory_store import ObjectStore
from transforms import storage


@pytest.fixture
def object_store() -> Iterator[dict[str, tuple[bytes, float]]]:
    """The objects of an empty store at `testfs://`."""
    yield ObjectStore.objects
    ObjectStore.objects.clear()
    ObjectStore.room = None


@pytest.fixture(params=["local", "object store"])
def directory(request: pytest.FixtureRequest, tmp_path: pathlib.Path, object_store: dict) -> str:
    """An empty directory, locally and in an object store."""
    return str(tmp_path / "out") if request.param == "local" else "testfs://bucket/out"


def content(path: str) -> bytes:
    with storage.open_input(path) as file:
        return file.read()


def writes(data: bytes) -> Callable[[str], None]:
    def write(local_path: str) -> None:
        pathlib.Path(local_path).write_bytes(data)

    return write


def fails_after(data: bytes, error: BaseException) -> Callable[[str], None]:
    def write(local_path: str) -> None:
        pathlib.Path(local_path).write_bytes(data)
        raise error

    return write


# Committing


def test_a_file_appears_when_it_is_committed_and_not_before(directory: str):
    path = storage.join(directory, "part.parquet")
    pending = storage.PendingFile(path)
    pathlib.Path(pending.local_path).write_bytes(b"half")
    assert not storage.exists(path)
    for name in storage.list_names(directory):
        assert name.startswith(storage.TEMPORARY_PREFIX)
    pathlib.Path(pending.local_path).write_bytes(b"whole")
    pending.commit()
    assert content(path) == b"whole"
    assert storage.list_names(directory) == ["part.parquet"]
    assert not os.path.exists(pending.local_path)


def test_a_discarded_file_leaves_nothing(directory: str):
    path = storage.join(directory, "part.parquet")
    pending = storage.PendingFile(path)
    pathlib.Path(pending.local_path).write_bytes(b"half")
    pending.discard()
    pending.discard()
    assert storage.list_names(directory) == []
    assert not os.path.exists(pending.local_path)


def test_discarding_after_the_commit_keeps_the_file(directory: str):
    path = storage.join(directory, "part.parquet")
    pending = storage.PendingFile(path)
    pathlib.Path(pending.local_path).write_bytes(b"whole")
    pending.commit()
    pending.discard()
    assert content(path) == b"whole"


def test_a_commit_replaces_what_was_there(directory: str):
    path = storage.join(directory, "report.json")
    storage.write_atomically(path, writes(b"a longer old report"))
    storage.write_atomically(path, writes(b"new"))
    assert content(path) == b"new"
    assert storage.list_names(directory) == ["report.json"]


def test_two_attempts_at_one_file_do_not_disturb_each_other(directory: str):
    path = storage.join(directory, "part.parquet")
    first, second = storage.PendingFile(path), storage.PendingFile(path)
    pathlib.Path(first.local_path).write_bytes(b"first")
    pathlib.Path(second.local_path).write_bytes(b"second")
    first.commit()
    assert content(path) == b"first"
    second.discard()
    assert content(path) == b"first"
    assert storage.list_names(directory) == ["part.parquet"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_what_was_there(directory: str, error: BaseException):
    path = storage.join(directory, "part.parquet")
    with pytest.raises(type(error)):
        storage.write_atomically(path, fails_after(b"half", error))
    assert storage.list_names(directory) == []
    storage.write_atomically(path, writes(b"old"))
    with pytest.raises(type(error)):
        storage.write_atomically(path, fails_after(b"half", error))
    assert content(path) == b"old"
    assert storage.list_names(directory) == ["part.parquet"]


def test_an_upload_that_fails_half_way_never_appears(object_store: dict):
    ObjectStore.room = 2 * 2**20
    with pytest.raises(OSError, match="full"):
        storage.write_atomically("testfs://bucket/part.parquet", writes(bytes(5 * 2**20)))
    assert object_store == {}


def test_an_upload_that_fails_half_way_keeps_the_old_object(object_store: dict):
    storage.write_atomically("testfs://bucket/report.json", writes(b"old"))
    ObjectStore.room = 2 * 2**20
    with pytest.raises(OSError, match="full"):
        storage.write_atomically("testfs://bucket/report.json", writes(bytes(5 * 2**20)))
    assert content("testfs://bucket/report.json") == b"old"


def test_local_copies_of_uploads_are_removed(
    object_store: dict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    storage.write_atomically("testfs://bucket/a", writes(b"x"))
    with pytest.raises(ValueError, match="no"):
        storage.write_atomically("testfs://bucket/b", fails_after(b"half", ValueError("no")))
    assert list(tmp_path.iterdir()) == []
    assert list(object_store) == ["testfs://bucket/a"]


def test_the_directories_of_a_new_file_are_made(tmp_path: pathlib.Path):
    path = str(tmp_path / "a" / "b" / "c.txt")
    storage.write_text(path, "x")
    assert pathlib.Path(path).read_text() == "x"


def test_a_bare_file_name_is_a_file_in_the_working_directory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    storage.write_text("report.json", "{}")
    assert (tmp_path / "report.json").read_text() == "{}"
    assert storage.list_names(str(tmp_path)) == ["report.json"]


def test_others_may_read_a_committed_file_as_the_umask_says(tmp_path: pathlib.Path):
    (tmp_path / "plain").write_text("x")
    storage.write_text(str(tmp_path / "committed"), "x")
    plain, committed = (tmp_path / "plain").stat(), (tmp_path / "committed").stat()
    assert stat.S_IMODE(committed.st_mode) == stat.S_IMODE(plain.st_mode)


def test_text_is_utf_8(directory: str):
    path = storage.join(directory, "Zürich 猫.txt")
    storage.write_text(path, "Zürich\n猫")
    assert content(path) == "Zürich\n猫".encode()
    assert storage.list_names(directory) == ["Zürich 猫.txt"]


# Reading


def test_bytes_are_read_and_written_as_they_are_whatever_the_name(directory: str):
    data = gzip.compress(b"x" * 100)
    for name in ("a.tfrecord.gz", "b.bz2", "c.txt"):
        storage.write_atomically(storage.join(directory, name), writes(data))
        assert content(storage.join(directory, name)) == data


def test_a_missing_file_is_an_oserror(directory: str):
    with pytest.raises(OSError):
        storage.open_input(storage.join(directory, "missing"))


def test_arrow_reads_parquet_from_anywhere(directory: str):
    table = pa.table({"id": ["a", "ü"], "n": [1, 2]})
    path = storage.join(directory, "x.parquet")
    storage.write_atomically(path, lambda local_path: pq.write_table(table, local_path))
    with storage.arrow_input(path) as file:
        assert pq.read_table(file).equals(table)
    assert file.closed


# Listing and deleting


def test_names_are_those_directly_in_the_directory_sorted(directory: str):
    for name in ("b.parquet", "a.parquet", "_errors/x.parquet", "_errors/y.parquet", "c/d/e"):
        storage.write_text(storage.join(directory, name), "x")
    storage.write_text(directory + "-other/z", "x")
    assert storage.list_names(directory) == ["_errors", "a.parquet", "b.parquet", "c"]
    assert storage.list_names(directory + "/") == storage.list_names(directory)
    assert storage.list_names(storage.join(directory, "_errors")) == ["x.parquet", "y.parquet"]


def test_a_missing_directory_has_no_names(directory: str):
    assert storage.list_names(directory) == []


@pytest.mark.parametrize("name", ["run [1]", "what?", "a*b"])
def test_a_directory_with_a_globs_characters_in_its_name_is_listed(directory: str, name: str):
    storage.write_text(storage.join(directory, name, "part.parquet"), "x")
    assert storage.list_names(storage.join(directory, name)) == ["part.parquet"]


def test_a_directory_with_a_globs_characters_does_not_list_others(directory: str):
    storage.write_text(storage.join(directory, "runs", "part.parquet"), "x")
    storage.write_text(storage.join(directory, "run?", "_SUCCESS"), "")
    assert storage.list_names(storage.join(directory, "run?")) == ["_SUCCESS"]


def test_existing_is_what_was_committed(directory: str):
    path = storage.join(directory, "a")
    assert not storage.exists(path)
    storage.write_text(path, "")
    assert storage.exists(path)


def test_deleting_takes_the_files_named_and_no_others(directory: str):
    paths = [storage.join(directory, name) for name in ("a", "b", "c")]
    for path in paths:
        storage.write_text(path, "x")
    storage.delete([paths[0], storage.join(directory, "missing"), paths[2]])
    assert storage.list_names(directory) == ["b"]
    storage.delete(paths)
    storage.delete(paths)
    assert storage.list_names(directory) == []


def test_deleting_a_local_directory_takes_what_is_in_it(tmp_path: pathlib.Path):
    storage.write_text(str(tmp_path / "plan" / "deep" / "x"), "x")
    storage.delete([str(tmp_path / "plan")])
    assert storage.list_names(str(tmp_path)) == []


def test_deleting_a_link_keeps_what_it_points_to(tmp_path: pathlib.Path):
    storage.write_text(str(tmp_path / "photos" / "x"), "x")
    (tmp_path / "link").symlink_to("photos")
    (tmp_path / "dangling").symlink_to("nowhere")
    storage.delete([str(tmp_path / "link"), str(tmp_path / "dangling")])
    assert storage.list_names(str(tmp_path)) == ["photos"]
    assert storage.list_names(str(tmp_path / "photos")) == ["x"]


# Paths


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/a/b", True),
        ("a/b", True),
        ("a:b/c", True),
        ("c:/photos", True),
        ("./gs://b", True),
        ("gs://bucket/a", False),
        ("S3://bucket", False),
        ("hdfs://host:9000/a", False),
        ("my+store.2://x", False),
    ],
)
def test_a_scheme_makes_a_path_remote(path: str, local: bool):
    assert storage.is_local(path) == local


def test_local_paths_become_absolute(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.absolute("out/") == str(tmp_path / "out")
    assert storage.absolute("./a/../out") == str(tmp_path / "out")
    assert storage.absolute("/x//y/") == "/x/y"
    assert storage.absolute("~/photos") == str(tmp_path / "photos")
    assert storage.absolute("gs://bucket//a/../b/") == "gs://bucket//a/../b/"


def test_names_are_joined_with_one_slash():
    assert storage.join("/out/", "_errors", "x") == "/out/_errors/x"
    assert storage.join("gs://bucket", "x") == "gs://bucket/x"
    assert storage.join("gs://bucket/out/", "x") == "gs://bucket/out/x"
