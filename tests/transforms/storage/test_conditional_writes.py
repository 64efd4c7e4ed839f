"""Conditional writes: of several writers one gets through, on every kind of filesystem."""

from __future__ import annotations

import fcntl
import os
import pathlib
import time
from collections.abc import Iterator

import pytest

from tests.helpers import object_stores
from tests.helpers.memory_store import ObjectStore
from transforms import storage
from transforms.storage import conditional_writes
from transforms.storage.conditional_writes import (
    StoredText,
    delete_if_unchanged,
    read_text,
    read_text_surely,
    write_if_unchanged,
)


@pytest.fixture(scope="module", params=["local", "no conditions", "gs", "s3"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A directory of each kind; each store runs once for the tests of this module."""
    if request.param == "gs":
        with object_stores.gcs() as store:
            yield store.uri
    elif request.param == "s3":
        with object_stores.s3() as store:
            yield store.uri
    elif request.param == "no conditions":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(conditional_writes, "SETTLE_SECONDS", 0)
            yield "testfs://bucket"
        ObjectStore.objects.clear()
    else:
        yield str(tmp_path_factory.mktemp("root"))


@pytest.fixture
def path(root: str, tmp_path: pathlib.Path) -> str:
    return storage.join(root, tmp_path.name, "new", "_lease.json")


def test_there_is_nothing_before_the_first_write(path: str) -> None:
    assert read_text(path) is None


def test_what_is_written_is_read(path: str) -> None:
    written = write_if_unchanged(path, "Zürich\n猫", None)
    assert written is not None
    assert written.text == "Zürich\n猫"
    assert read_text(path) == written


def test_where_one_that_is_replaced_is_gone_for_a_moment_it_is_found(
    path: str, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def replaced_meanwhile(seconds: float) -> None:
        looks.append(seconds)
        storage.write_text(path, "new")

    monkeypatch.setattr(time, "sleep", replaced_meanwhile)
    found = read_text_surely(path)
    if root.startswith("testfs://"):
        assert (found, len(looks)) == (StoredText("new"), 1)
    else:
        assert (found, looks) == (None, [])


def test_of_two_that_saw_no_file_the_first_one_writes(path: str) -> None:
    first = write_if_unchanged(path, "first", None)
    assert write_if_unchanged(path, "second", None) is None
    assert read_text(path) == first


def test_of_two_that_saw_the_same_file_the_first_one_replaces_it(path: str) -> None:
    write_if_unchanged(path, "dead", None)
    seen, seen_by_another = read_text(path), read_text(path)
    first = write_if_unchanged(path, "first", seen)
    assert first is not None
    assert write_if_unchanged(path, "second", seen_by_another) is None
    assert read_text(path) == first


def test_who_wrote_may_write_again_without_reading(path: str) -> None:
    stored = None
    for number in range(3):
        stored = write_if_unchanged(path, f"renewed {number}", stored)
        assert stored is not None
    assert read_text(path) == stored


def test_a_file_that_is_gone_is_not_replaced(path: str) -> None:
    other = write_if_unchanged(path + "-other", "there", None)
    assert write_if_unchanged(path, "mine", other) is None
    assert read_text(path) is None


def test_a_write_that_was_sent_twice_is_still_ones_own(path: str) -> None:
    """As when the answer to the first request was lost and the client sent it again."""
    first = write_if_unchanged(path, "mine", None)
    assert write_if_unchanged(path, "mine", None) == first
    second = write_if_unchanged(path, "mine, later", first)
    assert write_if_unchanged(path, "mine, later", first) == second


def test_what_was_seen_is_deleted(path: str) -> None:
    stored = write_if_unchanged(path, "mine", None)
    delete_if_unchanged(path, stored)
    assert read_text(path) is None
    delete_if_unchanged(path, stored)


@pytest.mark.parametrize("root", ["local", "no conditions", "s3"], indirect=True)
def test_what_was_not_seen_stays(path: str) -> None:
    """Not on `gs`: that emulator heeds no conditions of a deletion."""
    mine = write_if_unchanged(path, "mine", None)
    another = write_if_unchanged(path, "another's", mine)
    delete_if_unchanged(path, mine)
    assert read_text(path) == another


@pytest.mark.parametrize("root", ["local"], indirect=True)
def test_between_comparing_and_writing_nobody_else_is_let_in(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text, tried = storage.write_text, []

    def write(written: str, text: str) -> None:
        handle = os.open(os.path.dirname(path), os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
        tried.append(text)
        write_text(written, text)

    monkeypatch.setattr(storage, "write_text", write)
    assert write_if_unchanged(path, "mine", None)
    assert tried == ["mine"]


@pytest.mark.parametrize("root", ["gs", "s3"], indirect=True)
def test_what_the_store_refuses_is_an_oserror(root: str) -> None:
    elsewhere = root + "-that-is-not-there/_lease.json"
    with pytest.raises(OSError, match="bucket-that-is-not-there"):
        write_if_unchanged(elsewhere, "mine", None)


def test_bytes_that_are_no_text_are_told_apart_from_no_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff")
    assert read_text(str(tmp_path / "file")) == StoredText("\N{REPLACEMENT CHARACTER}")
