"""Inputs in real stores: what a listing finds, and versions that are the same everywhere."""

from __future__ import annotations

import io
import pathlib
import time
from collections.abc import Iterator

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from transforms import storage
from transforms.images.read_ahead import decode_shard
from transforms.images.spec import ImageSpec
from transforms.inputs.listing import list_images
from transforms.inputs.tfrecord_file import read_records
from transforms.refs import ImageRef
from transforms.shards import Shard
from transforms.storage import objects

# One of the middle two has its summer now, and the last one's winter time is a negative one.
ZONES = ("UTC", "Europe/Berlin", "Australia/Sydney", "Europe/Dublin")


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """For changing the time zone of this process."""
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((16, 16, 3), shade, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def put(path: str, data: bytes) -> None:
    storage.write_atomically(path, lambda local: pathlib.Path(local).write_bytes(data) and None)


def put_records(path: str, shades: list[int]) -> None:
    def write(local_path: str) -> None:
        with tf.io.TFRecordWriter(local_path) as writer:
            for shade in shades:
                value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[png(shade)]))
                features = tf.train.Features(feature={"image/encoded": value})
                writer.write(tf.train.Example(features=features).SerializeToString())

    storage.write_atomically(path, write)


def versions(path: str) -> list[str]:
    return [ref.version for ref in list_images([path]).refs]


def decoded(refs: list[ImageRef]) -> tuple[list[str], list[str]]:
    """Versions of the rows, and messages of the error rows."""
    batches = list(decode_shard(Shard(tuple(refs)), ImageSpec(16, 16), 4))
    rows = [row.ref.version for batch in batches for row in batch.rows]
    return rows, [error.message for batch in batches for error in batch.errors]


def test_a_version_is_the_same_in_every_time_zone(directory: str, zone: pytest.MonkeyPatch) -> None:
    put(f"{directory}/a.png", png(1))
    put_records(f"{directory}/b.tfrecord", [1, 2])
    seen = set()
    for name in ZONES:
        zone.setenv("TZ", name)
        time.tzset()
        listed = storage.list_files(directory)["a.png"]
        changed = {listed.modified, storage.modified(f"{directory}/a.png")}
        seen.add((*versions(directory), *changed))
    assert len(seen) == 1
    [(a, b, b_again, _)] = seen
    assert a.startswith(f"{len(png(1))}-{'g' if directory.startswith('gs') else 'e'}")
    assert a != b == b_again


def test_an_object_of_the_same_size_that_was_changed_at_once_has_another_version(
    directory: str,
) -> None:
    path = f"{directory}/a.png"
    put(path, b"one")
    before = versions(path)
    put(path, b"two")
    assert versions(path) != before
    assert versions(directory) == versions(path)


def test_a_row_has_the_version_that_was_read(directory: str) -> None:
    """Of an object that was replaced after it was listed."""
    path = f"{directory}/a.png"
    put(path, png(1))
    refs = list_images([path]).refs
    assert decoded(refs) == ([refs[0].version], [])
    put(path, png(2))
    assert decoded(refs) == (versions(path), [])
    assert versions(path) != [refs[0].version]


def test_records_of_a_file_that_was_replaced_are_not_taken_for_those_listed(
    directory: str,
) -> None:
    path = f"{directory}/a.tfrecord"
    put_records(path, [1, 2, 3])
    refs = list_images([path]).refs
    assert decoded(refs) == ([ref.version for ref in refs], [])
    put_records(path, [4, 5, 6])
    rows, messages = decoded(refs)
    assert rows == []
    assert set(messages) == {"the file has changed since it was listed; run again"}


def test_records_of_a_file_that_is_replaced_while_it_is_read_are_not_taken_for_those_listed(
    directory: str,
) -> None:
    path = f"{directory}/a.tfrecord"

    def put_bytes(kind: bytes) -> None:
        def write(local_path: str) -> None:
            with tf.io.TFRecordWriter(local_path) as writer:
                for number in range(4):
                    writer.write(kind * 100_000 + bytes([number]))

        storage.write_atomically(path, write)

    put_bytes(b"a")
    refs = list_images([path]).refs
    records = read_records(path, refs, 10**6)
    assert next(records) == b"a" * 100_000 + b"\0"
    put_bytes(b"b")
    assert [type(record).__name__ for record in records] == ["InputChangedError"] * 3


def test_empty_missing_and_large_objects_are_told(directory: str) -> None:
    put(f"{directory}/empty.png", b"")
    put(f"{directory}/gone.png", png(1))
    refs = list_images([directory]).refs
    storage.delete([f"{directory}/gone.png"])
    batches = list(decode_shard(Shard(tuple(refs)), ImageSpec(16, 16), 4))
    errors = [error for batch in batches for error in batch.errors]
    assert [error.error_type for error in errors] == ["EmptyImageError", "FileNotFoundError"]
    assert not any(error.transient for error in errors)


def test_a_listing_of_many_pages_is_whole(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAGE_OBJECTS", 3)
    paths = [f"{directory}/{number}/x.png" for number in range(8)]
    for path in paths:
        put(path, b"x")
    assert [ref.uri for ref in list_images([directory]).refs] == paths
    assert storage.list_names(directory) == [str(number) for number in range(8)]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*.png", ["a.png"]),
        ("*/*.png", ["album/b.png"]),
        ("**.png", ["a.png", "album/b.png", "album/deep/c.png"]),
        ("album/**", ["album/b.png", "album/deep/c.png", "album/notes.txt"]),
        ("album/?.png", ["album/b.png"]),
        ("[ab].png", ["a.png"]),
        ("[!b].png", ["a.png"]),
        ("album", ["album/b.png", "album/deep/c.png"]),
        ("album/", ["album/b.png", "album/deep/c.png"]),
        ("album/b.png", ["album/b.png"]),
        ("album/notes.txt", ["album/notes.txt"]),
        ("[1].png", ["[1].png"]),
    ],
)
def test_globs_match_as_beam_has_it(directory: str, pattern: str, matched: list[str]) -> None:
    names = ["a.png", "album/b.png", "album/deep/c.png", "album/notes.txt", "albums/d.txt"]
    for name in names + (["[1].png"] if pattern == "[1].png" else []):
        put(f"{directory}/{name}", b"x")
    found = [ref.uri for ref in list_images([f"{directory}/{pattern}"]).refs]
    assert found == [f"{directory}/{name}" for name in matched]


def test_an_object_is_read_from_any_place(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(1).bytes(300_000)
    put(f"{directory}/x", data)
    with storage.open_input(f"{directory}/x") as file:
        assert file.read(10) == data[:10]
        assert file.seek(-5, io.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
        assert file.read(1) == b""
        file.seek(100_000)
        assert file.read(150_000) == data[100_000:250_000]
        assert file.seek(10, io.SEEK_CUR) == 250_010
        assert file.read() == data[250_010:]
        file.seek(0)
        assert file.read() == data
        file.seek(len(data) + 9)
        assert file.read(4) == b""
