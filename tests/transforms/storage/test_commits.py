"""A committed file never replaces another; on HDFS, which replaces nothing, one that may does."""

from __future__ import annotations

import errno
import os
import pathlib
import threading
from collections.abc import Iterator

import pytest
from apache_beam.io.filesystem import BeamIOError

from tests.helpers.memory_store import ObjectStore
from transforms import storage
from transforms.storage import retries


@pytest.fixture(params=["links", "no links", "object store"])
def directory(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An empty directory of each kind."""
    if request.param == "no links":

        def refuse(*_: object) -> None:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

        monkeypatch.setattr(os, "link", refuse)
    yield str(tmp_path) if request.param != "object store" else "testfs://bucket"
    ObjectStore.objects.clear()


def pending(path: str, content: bytes) -> storage.PendingFile:
    file = storage.PendingFile(path)
    pathlib.Path(file.local_path).write_bytes(content)
    return file


def content(path: str) -> bytes:
    return storage.read(path, 100)[0]


def test_of_two_commits_the_first_one_stays_and_both_are_told(directory: str) -> None:
    path = storage.join(directory, "part.parquet")
    first, second = pending(path, b"first"), pending(path, b"second")
    assert first.commit()
    assert not second.commit()
    assert content(path) == b"first"
    assert storage.list_names(directory) == ["part.parquet"]
    assert not os.path.exists(second.local_path)


def test_a_link_that_was_made_and_not_told_of_is_ones_own(tmp_path: pathlib.Path) -> None:
    """As where a network filesystem asks again for want of an answer."""
    path = str(tmp_path / "part.parquet")
    file = pending(path, b"mine")
    os.link(file.local_path, path)
    assert file.commit()
    assert os.listdir(tmp_path) == ["part.parquet"]


def test_a_local_race_has_one_winner(tmp_path: pathlib.Path) -> None:
    for number in range(100):
        path = str(tmp_path / f"part-{number}")
        files = {b"a": pending(path, b"a"), b"b": pending(path, b"b")}
        start, won = threading.Barrier(2), []

        def commit(name: bytes, file: storage.PendingFile, start=start, won=won) -> None:
            start.wait()
            if file.commit():
                won.append(name)

        threads = [threading.Thread(target=commit, args=pair) for pair in files.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [pathlib.Path(path).read_bytes()] == won


class Renames:
    """What a filesystem's renames answer, one after another; then they work.

    Attributes:
      made: how many there were.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self._answers: list[tuple[Exception, bool]] = []
        self._rename = ObjectStore.rename
        self.made = 0
        monkeypatch.setattr(ObjectStore, "rename", lambda *arguments: self(*arguments))
        monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0)

    def answer(self, error: Exception, done: bool = False) -> None:
        """The next one fails with this error, whether or not it was carried out."""
        self._answers.append((error, done))

    def __call__(self, store: ObjectStore, sources: list[str], targets: list[str]) -> None:
        self.made += 1
        error, done = self._answers.pop(0) if self._answers else (None, True)
        if done:
            self._rename(store, sources, targets)
        if error:
            raise BeamIOError("Rename operation failed", {(sources[0], targets[0]): error})


class BusyError(Exception):
    code = 503


# As Beam's filesystem tells what the client of HDFS says.
EXISTS = BeamIOError("libhdfs error in renaming", Exception("Unable to rename '/a' to '/b'."))


@pytest.fixture
def renames(monkeypatch: pytest.MonkeyPatch) -> Iterator[Renames]:
    yield Renames(monkeypatch)
    ObjectStore.objects.clear()


PATH = "testfs://bucket/_snapshot.json"


def objects() -> dict[str, bytes]:
    return {path: stored for path, (stored, _) in ObjectStore.objects.items()}


def test_a_busy_store_deletes_nothing(renames: Renames) -> None:
    storage.write_text(PATH, "before")
    for _ in range(retries.WRITE_ATTEMPTS):
        renames.answer(BusyError())
    with pytest.raises(OSError, match="Rename operation failed"):
        storage.write_text(PATH, "after")
    assert objects() == {PATH: b"before"}
    storage.write_text(PATH, "after")
    assert objects() == {PATH: b"after"}


def test_what_passes_is_overcome(renames: Renames) -> None:
    storage.write_text(PATH, "before")
    renames.answer(BusyError())
    renames.answer(BusyError(), done=True)
    storage.write_text(PATH, "after")
    assert objects() == {PATH: b"after"}
    renames.answer(BusyError(), done=True)
    path = PATH + "-new"
    assert pending(path, b"new").commit()
    assert objects() == {PATH: b"after", path: b"new"}


def test_a_permission_that_is_missing_deletes_nothing(renames: Renames) -> None:
    storage.write_text(PATH, "before")
    made = renames.made
    renames.answer(PermissionError("no"))
    with pytest.raises(OSError):
        storage.write_text(PATH, "after")
    assert (objects(), renames.made) == ({PATH: b"before"}, made + 1)


def test_hdfs_is_made_to_replace(renames: Renames) -> None:
    storage.write_text(PATH, "before")
    renames.answer(EXISTS)
    storage.write_text(PATH, "after")
    assert objects() == {PATH: b"after"}


def test_hdfs_that_is_busy_in_between_loses_nothing(renames: Renames) -> None:
    storage.write_text(PATH, "before")
    renames.answer(EXISTS)
    renames.answer(BusyError())
    storage.write_text(PATH, "after")
    assert objects() == {PATH: b"after"}
    renames.answer(EXISTS)
    for _ in range(retries.WRITE_ATTEMPTS):
        renames.answer(BusyError())
    with pytest.raises(OSError):
        storage.write_text(PATH, "last")
    assert list(objects().values()) == [
        b"last"
    ]  # under its temporary name: no other bytes are left


def test_hdfs_keeps_a_part_that_is_there(renames: Renames) -> None:
    """Also where it came between the look and the rename."""
    path = "testfs://bucket/part.parquet"
    second = pending(path, b"second")
    rename = renames._rename

    def first_comes(store: ObjectStore, sources: list[str], targets: list[str]) -> None:
        ObjectStore.objects[path] = (b"first", 1.0)
        raise BeamIOError("Rename operation failed", {(sources[0], targets[0]): EXISTS})

    renames._rename = first_comes
    renames.answer(EXISTS, done=True)
    assert not second.commit()
    renames._rename = rename
    assert objects() == {path: b"first"}
