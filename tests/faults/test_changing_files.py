"""Files that change between listing and reading, or while they are read: never half an image."""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Callable, Sequence

import pytest

from tests.helpers.images import write_random_images
from tests.helpers.memory_store import ObjectStore
from tests.helpers.records import example, write_records
from transforms import storage
from transforms.batches import ImageBatch
from transforms.errors import ErrorRow
from transforms.images.read_ahead import decode_shard
from transforms.images.spec import ImageSpec
from transforms.inputs import examples
from transforms.inputs.listing import list_images
from transforms.inputs.tfrecord_file import Place, scan
from transforms.refs import ImageRef, Unreadable
from transforms.shards import Shard
from transforms.storage import retries

Change = Callable[[pathlib.Path], None]


def truncate(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grow(path: pathlib.Path) -> None:
    with path.open("ab") as file:
        file.write(b"more of it")


def overwrite(path: pathlib.Path) -> None:
    """Other bytes, as many of them."""
    status = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(0, status.st_mtime_ns + 1))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0)


@pytest.fixture
def changing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change, int], list[str]]:
    """Has files changed when they are open and about to be read, so many times; tells of each."""
    opened: list[str] = []

    def prepare(change: Change, times: int) -> list[str]:
        class Changing(io.BufferedReader):
            def read(self, size: int | None = -1) -> bytes:
                if len(opened) < times:
                    opened.append(self.raw.name)
                    change(pathlib.Path(self.raw.name))
                return super().read(size)

        for room in (storage, storage.files):
            monkeypatch.setattr(room, "open_input", lambda path: Changing(io.FileIO(path)))
        return opened

    return prepare


def decoded(refs: Sequence[ImageRef]) -> tuple[list[ImageBatch], list[ErrorRow]]:
    batches = list(decode_shard(Shard(tuple(refs)), ImageSpec(20, 20), 4))
    return batches, [error for batch in batches for error in batch.errors]


@pytest.mark.parametrize("change", [truncate, grow, overwrite])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: pathlib.Path, changing: Callable, change: Change
) -> None:
    """And then it is whole: here it is a PNG with something behind it, or nothing at all."""
    [path] = write_random_images(tmp_path, 1)
    [ref] = list_images([str(path)]).refs
    changing(change, 1)
    batches, errors = decoded([ref])
    now = storage.version(path.stat())
    assert now != ref.version
    if change is grow:
        [row] = batches[0].rows
        assert row.ref.version == now
    else:
        [error] = errors
        assert (error.stage, error.version, error.transient) == ("decode", now, False)
        assert error.error_type in ("CorruptImageError", "NotAnImageError")


@pytest.mark.parametrize("change", [truncate, grow, overwrite])
def test_a_file_that_changes_again_and_again_is_an_error_that_may_pass(
    tmp_path: pathlib.Path, changing: Callable, change: Change
) -> None:
    path, *others = write_random_images(tmp_path, 3, size=200)
    refs = list_images([str(tmp_path)]).refs
    opened = changing(lambda p: change(p) if p == path else None, 99)
    batches, [error] = decoded(refs)
    assert (error.id, error.stage) == (str(path), "read")
    assert (error.error_type, error.transient) == ("InputChangedError", True)
    assert "changed while it was read" in error.message
    assert opened.count(str(path)) == retries.ATTEMPTS
    assert [row.ref.id for row in batches[0].rows] == list(map(str, others))


def test_a_file_that_vanishes_after_it_was_listed_is_an_error_of_reading(
    tmp_path: pathlib.Path,
) -> None:
    paths = write_random_images(tmp_path, 3)
    refs = list_images([str(tmp_path)]).refs
    paths[1].unlink()
    [batch], [error] = decoded(refs)
    assert (error.id, error.version) == (str(paths[1]), refs[1].version)
    assert (error.stage, error.error_type) == ("read", "FileNotFoundError")
    assert len(batch.rows) == 2


def test_a_file_that_was_replaced_after_it_was_listed_has_the_version_that_was_read(
    tmp_path: pathlib.Path,
) -> None:
    first, second = write_random_images(tmp_path, 2)
    refs = list_images([str(first)]).refs
    second.replace(first)
    [batch], errors = decoded(refs)
    assert not errors
    assert [row.ref.version for row in batch.rows] == [storage.version(first.stat())]


def test_an_object_that_is_shorter_than_its_listing_says_is_an_error_that_may_pass() -> None:
    """As when the connection breaks off and nobody says so: it is no damaged image."""
    name = "testfs://bucket/a.png"
    try:
        ObjectStore.objects[name] = (b"\x89PNG" + bytes(500), 1.0)
        refs = list_images([name]).refs
        ObjectStore.objects[name] = (b"\x89PNG" + bytes(100), 1.0)
        _, [error] = decoded(refs)
    finally:
        ObjectStore.objects.clear()
    assert (error.stage, error.error_type) == ("read", "InputChangedError")
    assert error.transient
    assert "ended after 104 of 504 bytes" in error.message


def test_a_record_that_changes_in_its_place_while_it_is_read_is_an_error(
    tmp_path: pathlib.Path, changing: Callable
) -> None:
    """The other record is whole, has a right checksum, and is not the one that was listed."""
    images = [path.read_bytes() for path in write_random_images(tmp_path / "images", 6)]
    path = tmp_path / "a.tfrecord"
    write_records(path, [example(image=[image]) for image in images])
    other = pathlib.Path(
        write_records(tmp_path / "b", [example(image=[image]) for image in reversed(images)])
    )
    assert other.stat().st_size == path.stat().st_size
    refs = list_images([str(path)]).refs

    def replace(target: pathlib.Path) -> None:
        status = target.stat()
        target.write_bytes(other.read_bytes())
        os.utime(target, ns=(0, status.st_mtime_ns + 1))

    changing(replace, 1)
    batches, errors = decoded(refs)
    assert not any(batch.rows for batch in batches)
    assert {error.error_type for error in errors} == {"InputChangedError"}
    assert all(error.transient for error in errors)
    assert all("has changed since it was listed" in error.message for error in errors)


def test_a_container_that_is_cut_while_it_is_listed_is_listed_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tfrecord"
    write_records(path, [example(image=[b"x" * 90], id=[n]) for n in range(4)])
    whole = path.stat().st_size

    def scan_and_cut(name: str) -> list[Place]:
        places = list(scan(name))
        os.truncate(path, whole - 30)
        return places

    monkeypatch.setattr(examples, "scan", scan_and_cut)
    listing = list_images([str(path)], id_key="id")
    assert [ref.id for ref in listing.refs] == ["0", "1", "2", f"{path}#3"]
    assert listing.unreadable == [Unreadable(str(path), whole // 4 - 30, images=1)]
