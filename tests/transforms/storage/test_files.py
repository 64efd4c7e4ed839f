"""Storage: a file is there as a whole or not at all, on a local disk and in an object store."""

from __future__ import annotations

import errno
import gzip
import io
import os
import pathlib
import stat
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io import filesystemio
from apache_beam.io.filesystem import BeamIOError, CompressedFile, FileMetadata, FileSystem

from transforms import storage


class ObjectStore(FileSystem):
    """A store such as S3 in memory: no directories, and an object appears when it is closed.

    It reads and writes through the streams that Beam uses for S3, Azure and HDFS.

    Attributes:
      objects: path to content and time of change.
      room: bytes that can still be uploaded before the store fails; None for no end.
    """

    objects: ClassVar[dict[str, tuple[bytes, float]]] = {}
    room: ClassVar[int | None] = None

    @classmethod
    def scheme(cls) -> str:
        return "testfs"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        pass

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path in sorted(self.objects):
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def create(self, path, mime_type="", compression_type="auto"):
        stream = io.BufferedWriter(filesystemio.UploaderStream(_Upload(path)))
        return _maybe_compressed(stream, self._get_compression_type(path, compression_type))

    def open(self, path, mime_type="", compression_type="auto"):
        stream = io.BufferedReader(filesystemio.DownloaderStream(_Download(path)))
        return _maybe_compressed(stream, self._get_compression_type(path, compression_type))

    def copy(self, source_file_names, destination_file_names) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            self.objects[target] = self.objects[source]

    def rename(self, source_file_names, destination_file_names) -> None:
        self.copy(source_file_names, destination_file_names)
        self.delete(source_file_names)

    def exists(self, path: str) -> bool:
        return path in self.objects

    def size(self, path: str) -> int:
        return self.metadata(path).size_in_bytes

    def last_updated(self, path: str) -> float:
        return self.metadata(path).last_updated_in_seconds

    def metadata(self, path: str) -> FileMetadata:
        if path not in self.objects:
            raise BeamIOError(f"no object {path}")
        content, changed = self.objects[path]
        return FileMetadata(path, len(content), changed)

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            if path not in self.objects:
                raise BeamIOError(f"no object {path}")
            del self.objects[path]


class _Upload(filesystemio.Uploader):
    def __init__(self, path: str):
        self._path = path
        self._parts: list[bytes] = []

    def put(self, data: memoryview) -> None:
        if ObjectStore.room is not None:
            ObjectStore.room -= len(data)
            if ObjectStore.room < 0:
                raise OSError(errno.EDQUOT, "the bucket is full")
        self._parts.append(bytes(data))

    def finish(self) -> None:
        ObjectStore.objects[self._path] = (b"".join(self._parts), time.time())


class _Download(filesystemio.Downloader):
    def __init__(self, path: str):
        if path not in ObjectStore.objects:
            raise BeamIOError(f"no object {path}")
        self._content, _ = ObjectStore.objects[path]

    @property
    def size(self) -> int:
        return len(self._content)

    def get_range(self, start: int, end: int) -> bytes:
        return self._content[start:end]


def _maybe_compressed(stream, compression_type: str):
    return stream if compression_type == "uncompressed" else CompressedFile(stream)


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
