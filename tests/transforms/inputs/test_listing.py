"""Matching: everything that was asked for is a ref, is counted as passed over, or is an error."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator, Sequence

import pytest

from tests.helpers.memory_store import ObjectStore
from transforms.errors import UserError
from transforms.inputs import tfrecord_file
from transforms.inputs.listing import Listing, list_images
from transforms.inputs.names import is_tfrecord_name
from transforms.refs import ImageRef, Unreadable

ODD_NAMES = [
    "a b.jpg",
    "[1].jpg",
    "x[ab].jpg",
    "#1.jpg",
    "s*.jpg",
    "what?.jpg",
    "Zürich 猫.jpg",
    ".hidden.jpg",
    "~tilde.jpg",
    "100%.jpg",
    "back\\slash.jpg",
    "new\nline.jpg",
    "'quoted'.jpg",
]

# Building inputs


def touch(directory: pathlib.Path, *names: str) -> list[str]:
    """Makes files of a few bytes; their paths, sorted."""
    paths = [directory / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not really an image")
    return sorted(map(str, paths))


def write_examples(path: pathlib.Path, ids: Sequence[bytes | int | list | None]) -> str:
    """A TFRecord file of Examples whose feature `id` holds these values."""
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for value in ids:
            example = tf.train.Example()
            feature = example.features.feature
            values = value if isinstance(value, list) else [value]
            if isinstance(values[0], bytes):
                feature["id"].bytes_list.value.extend(values)
            elif isinstance(values[0], int):
                feature["id"].int64_list.value.extend(values)
            writer.write(example.SerializeToString())
    return str(path)


def uris(listing: Listing) -> list[str]:
    return [ref.uri for ref in listing.refs]


def problems(listing: Listing) -> dict[str, str]:
    return {ref.uri: ref.problem for ref in listing.refs if ref.problem}


def check(listing: Listing) -> Listing:
    """What holds for every listing."""
    ids = [ref.id for ref in listing.refs]
    assert len(set(ids)) == len(ids)
    places = [(ref.uri, ref.record_index or 0) for ref in listing.refs]
    assert places == sorted(places)
    assert listing.containers == sorted(listing.containers)
    for ref in listing.refs:
        for text in (ref.id, ref.uri, ref.problem or ""):
            text.encode("utf-8")
    return listing


def listed(*inputs: object, **options) -> Listing:
    return check(list_images([str(item) for item in inputs], **options))


# Directories


def test_a_directory_is_searched_to_its_bottom(tmp_path: pathlib.Path):
    expected = touch(tmp_path, "a.jpg", "b/c.png", "b/d/e/f.webp")
    assert uris(listed(tmp_path)) == expected
    assert uris(listed(f"{tmp_path}/")) == expected


def test_images_are_known_by_their_suffix_in_any_case(tmp_path: pathlib.Path):
    names = ["a.jpg", "a.JPG", "a.Jpeg", "a.jpe", "a.jfif", "a.PNG", "a.gif", "a.bmp", "a.dib"]
    expected = touch(tmp_path, *names, "a.webp", "x.tar.png")
    assert uris(listed(tmp_path)) == expected


def test_other_files_of_a_directory_are_counted_by_suffix(tmp_path: pathlib.Path):
    images = touch(tmp_path, "a.jpg")
    touch(tmp_path, "a.txt", "b/b.TXT", "labels.csv", "README", ".DS_Store", "b/.DS_Store", "jpg")
    listing = listed(tmp_path)
    assert uris(listing) == images
    assert listing.passed_over == {".txt": 2, ".csv": 1, "README": 1, ".DS_Store": 2, "jpg": 1}


def test_a_file_that_two_inputs_pass_over_is_counted_once(tmp_path: pathlib.Path):
    touch(tmp_path, "a.jpg", "b/b.jpg", "b/b.txt")
    assert listed(tmp_path, tmp_path / "b").passed_over == {".txt": 1}


def test_a_directory_that_is_named_like_an_image_is_searched(tmp_path: pathlib.Path):
    expected = touch(tmp_path, "album.jpg/a.jpg", "x.tfrecord/b.jpg")
    assert uris(listed(tmp_path)) == expected
    assert uris(listed(tmp_path / "album.jpg")) == expected[:1]


def test_tfrecord_files_of_a_directory_are_opened(tmp_path: pathlib.Path):
    record = write_examples(tmp_path / "b" / "x.tfrecord-00000-of-00001", [None] * 3)
    before, after = touch(tmp_path, "a.jpg", "z.jpg")
    listing = listed(tmp_path)
    assert uris(listing) == [before, record, record, record, after]
    assert listing.containers == [record]
    records = listing.refs[1:4]
    assert [ref.id for ref in records] == [f"{record}#{n}" for n in range(3)]
    places = [(ref.offset, ref.size, 0) for ref in records]
    assert places == list(tfrecord_file.scan(record))
    assert {ref.version for ref in records} != {""}


HIDDEN = (".thumbnails", ".ipynb_checkpoints", "@eaDir")


def test_hidden_folders_and_files_of_a_directory_are_counted(tmp_path: pathlib.Path):
    images = touch(tmp_path, "a.jpg", "b/c.jpg", "d.e/f.jpg")
    touch(tmp_path, *(f"{folder}/x.jpg" for folder in HIDDEN), ".git/deep/.down/y.jpg")
    touch(tmp_path, "b/.thumbnails/x.jpg", "b/.thumbnails/z.jpg", "b/.h.JPG", "._a.jpg", ".env")
    write_examples(tmp_path / ".old" / "x.tfrecord", [None])
    (tmp_path / ".link").symlink_to("b")
    listing = listed(tmp_path)
    assert (uris(listing), listing.containers) == (images, [])
    folders = {".thumbnails/": 2, ".ipynb_checkpoints/": 1, "@eaDir/": 1, ".git/": 1, ".old/": 1}
    files = {".link/": 1, ".*.jpg": 1, "._*": 1, ".env": 1}
    assert listing.passed_over == folders | files


@pytest.mark.parametrize("folder", HIDDEN)
def test_a_hidden_folder_that_is_named_is_read(tmp_path: pathlib.Path, folder: str):
    paths = touch(tmp_path / "p" / folder, "a.jpg", "b/c.jpg")
    touch(tmp_path / "p" / folder, ".thumbnails/d.jpg")
    listing = listed(tmp_path / "p" / folder)
    assert (uris(listing), listing.passed_over) == (paths, {".thumbnails/": 1})
    assert uris(listed(tmp_path / "p" / folder / "*.jpg")) == paths[:1]
    assert uris(listed(tmp_path / "**" / folder / "*.jpg")) == paths[:1]
    [image] = touch(tmp_path / "p", "z.jpg")
    assert set(uris(listed(tmp_path / "p", paths[0]))) == {paths[0], image}
    listing = listed(tmp_path / "p", tmp_path / "p" / folder)
    assert set(uris(listing)) == {*paths, image}
    assert listing.passed_over == {".thumbnails/": 1}


def test_a_directory_of_hidden_folders_alone_says_so(tmp_path: pathlib.Path):
    touch(tmp_path, ".thumbnails/a.jpg")
    assert "(passed over: 1 .thumbnails/)" in message(tmp_path)


@pytest.mark.parametrize(
    "name", ["x.tfrecord.index", "x.tfrecord-00000-of-00001.idx", "x.tfrec.md5"]
)
def test_what_lies_beside_a_tfrecord_file_is_passed_over(tmp_path: pathlib.Path, name: str):
    record = write_examples(tmp_path / "x.tfrecord", [None, None])
    [beside] = touch(tmp_path, name)
    suffix = os.path.splitext(name)[1]
    for pattern in (tmp_path, tmp_path / "*", tmp_path / "x*"):
        listing = listed(pattern)
        assert (uris(listing), listing.containers) == ([record] * 2, [record])
        assert listing.passed_over == {suffix: 1}
    assert uris(listed(beside)) == [beside]  # whoever names it wants it


@pytest.mark.parametrize(
    ("name", "is_record"),
    [
        ("train.tfrecord", True),
        ("train01-8.tfrec", True),
        ("00-2071.tfrec.gz", True),
        ("a.tfrecs", False),
        ("train.tfrecord.index", False),
        ("train.tfrecord.idx", False),
        ("train.tfrecords", True),
        ("TRAIN.TFRECORD", True),
        ("train.tfrecord.gz", True),
        ("train.tfrecord-00000-of-00010", True),
        ("train.tfrecord_3", True),
        ("/data/x.tfrecord/a.jpg", False),
        ("tfrecord", False),
        ("a.tfrecordings", False),
        ("a.jpg", False),
    ],
)
def test_names_say_what_is_a_tfrecord_file(name: str, is_record: bool):
    assert is_tfrecord_name(name) == is_record


# Files and globs


def test_a_file_that_is_named_is_taken_whatever_its_name(tmp_path: pathlib.Path):
    paths = touch(tmp_path, "photo", "scan.dat")
    assert uris(listed(*paths)) == paths


def test_a_glob_takes_every_file_that_it_matches(tmp_path: pathlib.Path):
    touch(tmp_path, "a.jpg", "b.dat", "sub/c.jpg", "sub/deep/d.jpg", ".hidden.jpg")

    def names(pattern: str) -> list[str]:
        listing = listed(tmp_path / pattern)
        assert not listing.passed_over
        return [os.path.relpath(uri, tmp_path) for uri in uris(listing)]

    assert names("*") == ["a.jpg", "b.dat", "sub/c.jpg", "sub/deep/d.jpg"]  # directories, too
    assert names("*.jpg") == ["a.jpg"]
    assert names(".*") == [".hidden.jpg"]  # as in a shell
    assert names("?.*") == ["a.jpg", "b.dat"]
    assert names("[ab].*") == ["a.jpg", "b.dat"]
    assert names("*/*.jpg") == ["sub/c.jpg"]
    assert names("**/*.jpg") == ["a.jpg", "sub/c.jpg", "sub/deep/d.jpg"]
    assert names("sub/**") == ["sub/c.jpg", "sub/deep/d.jpg"]


def test_what_matches_in_a_recursive_glob_stays_within_one_name(tmp_path: pathlib.Path):
    paths = touch(tmp_path, "a-b.jpg", "a/b.jpg", "x/a-b.jpg", "x/a/b.jpg", "x/ac-bd/ef.jpg")
    flat = [path for path in paths if path.endswith("a-b.jpg")]
    for pattern in ("**/a?b.jpg", "**/a[!x]b.jpg", "**/a[+-9]b.jpg", "**/a*b.jpg", "**/*a*b*.jpg"):
        assert uris(listed(tmp_path / pattern)) == flat, pattern
    assert uris(listed(tmp_path / "**" / "*a*b*" / "*e*f*.jpg")) == [f"{tmp_path}/x/ac-bd/ef.jpg"]
    assert uris(listed(tmp_path / "**" / "a" / "*")) == [
        f"{tmp_path}/a/b.jpg",
        f"{tmp_path}/x/a/b.jpg",
    ]


def test_a_recursive_glob_may_name_a_link(tmp_path: pathlib.Path):
    touch(tmp_path, "2026-01/day/a.jpg")
    (tmp_path / "current").symlink_to("2026-01")
    for pattern in ("current/**/*.jpg", "curr*/**/*.jpg", "c*/day/**"):
        assert uris(listed(tmp_path / pattern)) == [f"{tmp_path}/current/day/a.jpg"]


def test_relative_paths_become_absolute(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    expected = touch(tmp_path, "photos/a.jpg")
    monkeypatch.chdir(tmp_path)
    for pattern in ("photos", "./photos/../photos", "photos/a.jpg", "*/a.jpg", "."):
        assert uris(listed(pattern)) == expected


def test_a_file_that_several_inputs_match_is_one_ref(tmp_path: pathlib.Path):
    record = write_examples(tmp_path / "x.tfrecord", [None, None])
    [path] = touch(tmp_path, "a.jpg")
    listing = listed(tmp_path, path, tmp_path / "*", path, f"{tmp_path}/./a.jpg", record)
    assert uris(listing) == [path, record, record]
    assert listing.containers == [record]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_can_be_given(tmp_path: pathlib.Path, name: str):
    touch(tmp_path, "x.jpg", "a.jpg", "1.jpg")  # which a pattern of that name could match
    [path] = touch(tmp_path, name)
    [ref] = listed(path).refs
    assert (ref.id, ref.uri, ref.problem) == (path, path, None)
    assert ref.size == os.path.getsize(path)


def test_any_name_is_found_in_a_directory_and_by_a_glob(tmp_path: pathlib.Path):
    directory = tmp_path / "odd [names] #1?"
    expected = touch(directory, *ODD_NAMES)
    expected.remove(str(directory / ".hidden.jpg"))
    listing = listed(directory)
    assert (uris(listing), listing.passed_over) == (expected, {".*.jpg": 1})
    assert uris(listed(tmp_path / "odd*" / "*.jpg")) == expected
    assert uris(listed(tmp_path / "**")) == expected


def test_a_glob_may_quote_a_bracket(tmp_path: pathlib.Path):
    expected = touch(tmp_path, "x[1].jpg", "x[2].jpg")
    touch(tmp_path, "x1.jpg")
    assert uris(listed(tmp_path / "x[[]*].jpg")) == expected


def test_the_order_of_the_inputs_does_not_matter(tmp_path: pathlib.Path):
    touch(tmp_path, "b/1.jpg", "a/2.jpg", "a.jpg", "a-b.jpg")
    write_examples(tmp_path / "a" / "x.tfrecord", [None] * 12)
    inputs = [tmp_path / "b", tmp_path / "a", tmp_path / "a.jpg", tmp_path / "*.jpg"]
    assert listed(*inputs) == listed(*reversed(inputs))


# Versions and labels


def test_the_version_changes_with_the_file(tmp_path: pathlib.Path):
    [path] = touch(tmp_path, "a.jpg")
    os.utime(path, ns=(0, 1_000_000_000))
    [before] = listed(path).refs
    assert listed(path).refs == [before]
    os.utime(path, ns=(0, 1_000_000_001))
    [touched] = listed(path).refs
    with open(path, "ab") as file:
        file.write(b"x")
    os.utime(path, ns=(0, 1_000_000_000))
    [longer] = listed(path).refs
    assert len({before.version, touched.version, longer.version}) == 3
    assert longer.size == before.size + 1


def test_labels_are_the_names_of_parent_directories(tmp_path: pathlib.Path):
    touch(tmp_path, "cat/1.jpg", "cat/young/2.jpg", "dög/3.jpg")
    write_examples(tmp_path / "fox" / "x.tfrecord", [None, None])
    labels = [ref.label for ref in listed(tmp_path, label_from_parent=True).refs]
    assert labels == ["cat", "young", "dög", "fox", "fox"]
    assert {ref.label for ref in listed(tmp_path).refs} == {None}


# Input formats


def test_as_files_a_tfrecord_file_is_an_image_if_it_is_named(tmp_path: pathlib.Path):
    record = write_examples(tmp_path / "x.tfrecord", [None, None])
    [image] = touch(tmp_path, "a.jpg")
    listing = listed(tmp_path, input_format="files")
    assert (uris(listing), listing.containers) == ([image], [])
    assert listing.passed_over == {".tfrecord": 1}
    listing = listed(tmp_path / "*", input_format="files")
    assert (uris(listing), listing.containers) == ([image, record], [])
    assert not any(ref.is_record for ref in listing.refs)


def test_as_tfrecord_any_file_that_is_named_is_opened(tmp_path: pathlib.Path):
    record = write_examples(tmp_path / "train.dat", [None, None])
    listing = listed(record, input_format="tfrecord")
    assert listing.containers == [record]
    assert [ref.record_index for ref in listing.refs] == [0, 1]


def test_as_tfrecord_the_images_of_a_directory_are_passed_over(tmp_path: pathlib.Path):
    record = write_examples(tmp_path / "x.tfrecord", [None])
    touch(tmp_path, "a.jpg")
    listing = listed(tmp_path, input_format="tfrecord")
    assert uris(listing) == [record]
    assert listing.passed_over == {".jpg": 1}


# Ids of Examples


def test_ids_are_those_of_the_examples(tmp_path: pathlib.Path):
    path = write_examples(tmp_path / "x.tfrecord", [b"one", "Zürich".encode(), 3, -4])
    listing = listed(path, id_key="id")
    assert [ref.id for ref in listing.refs] == ["one", "Zürich", "3", "-4"]
    assert problems(listing) == {}
    assert [ref.record_index for ref in listing.refs] == [0, 1, 2, 3]


def test_a_missing_id_is_a_problem_of_that_record(tmp_path: pathlib.Path):
    path = write_examples(tmp_path / "x.tfrecord", [b"a", None, [b"b", b"c"], b"caf\xe9", b"d"])
    refs = listed(path, id_key="id").refs
    assert [ref.id for ref in refs] == ["a", f"{path}#1", f"{path}#2", f"{path}#3", "d"]
    for ref in refs[1:4]:
        assert f"record {ref.record_index}" in ref.problem
        assert "'id'" in ref.problem
    assert [ref.problem for ref in (refs[0], refs[4])] == [None, None]


def test_an_empty_id_is_a_missing_id(tmp_path: pathlib.Path):
    path = write_examples(tmp_path / "x.tfrecord", [b"", b"a"])
    first, second = listed(path, id_key="id").refs
    assert first.id == f"{path}#0"
    assert first.problem
    assert not second.problem


def test_a_second_image_of_an_id_is_a_problem_that_names_the_first(tmp_path: pathlib.Path):
    first = write_examples(tmp_path / "1.tfrecord", [b"a", b"b", b"a"])
    second = write_examples(tmp_path / "2.tfrecord", [b"b", b"c"])
    refs = listed(tmp_path, id_key="id").refs
    assert [ref.id for ref in refs] == ["a", "b", f"{first}#2", f"{second}#0", "c"]
    assert [ref.problem is None for ref in refs] == [True, True, False, False, True]
    for ref, name in ((refs[2], "'a'"), (refs[3], "'b'")):
        assert f"id {name} is already" in ref.problem
        assert first in ref.problem


def test_the_number_5_and_the_text_5_are_the_same_id(tmp_path: pathlib.Path):
    path = write_examples(tmp_path / "x.tfrecord", [5, b"5"])
    assert [ref.id for ref in listed(path, id_key="id").refs] == ["5", f"{path}#1"]


def test_an_id_that_is_the_place_of_another_record_stays_unique(tmp_path: pathlib.Path):
    path = tmp_path / "x.tfrecord"
    write_examples(path, [f"{path}#1".encode(), None, b"a"])
    refs = listed(path, id_key="id").refs
    assert len(refs) == 3
    assert refs[1].problem


def test_an_id_that_is_the_name_of_a_file_stays_unique(tmp_path: pathlib.Path):
    [image] = touch(tmp_path, "a.jpg")
    record = write_examples(tmp_path / "x.tfrecord", [image.encode()])
    first, second = listed(tmp_path, id_key="id").refs
    assert (first.id, second.id) == (image, f"{record}#0")
    assert image in second.problem
    assert "None" not in second.problem


def test_a_file_that_is_named_like_a_record_stays_unique(tmp_path: pathlib.Path):
    record = write_examples(tmp_path / "x.tfrecord", [None])
    [file] = touch(tmp_path, "x.tfrecord#0")
    assert uris(listed(tmp_path / "*")) == [record, file]


def test_a_damaged_record_is_not_said_to_lack_its_id(tmp_path: pathlib.Path):
    path = write_examples(tmp_path / "x.tfrecord", [b"a" * 50, b"b" * 50, b"c" * 50])
    _, (offset, _, _), _ = tfrecord_file.scan(path)
    with open(path, "r+b") as file:
        file.seek(offset + 40)
        file.write(b"\xff")
    listing = listed(path, id_key="id")
    assert [ref.id[:1] for ref in listing.refs] == ["a", "/", "c"]
    assert "no single" not in (listing.refs[1].problem or "")


# Broken files


def test_damaged_tfrecord_files_are_refs_up_to_the_damage(tmp_path: pathlib.Path):
    path = write_examples(tmp_path / "x.tfrecord", [b"a", b"b", b"c"])
    last = list(tfrecord_file.scan(path))[-1][0]
    os.truncate(path, last + 5)
    for id_key in (None, "id"):
        refs = listed(path, id_key=id_key).refs
        assert [ref.size is None for ref in refs] == [False, False, True]
        assert refs[2].offset == last


def test_what_is_lost_of_a_container_is_measured(tmp_path: pathlib.Path):
    whole = write_examples(tmp_path / "a.tfrecord", [b"x" * 100] * 10)
    page = tmp_path / "b.tfrecord"
    page.write_bytes(b"<html>".ljust(5 * (os.path.getsize(whole) // 10 - 16)))
    (tmp_path / "c.tfrecord").symlink_to("nowhere")
    os.mkfifo(tmp_path / "d.tfrecord")
    link, pipe = (f"{tmp_path}/{name}.tfrecord" for name in "cd")
    half = Unreadable(str(page), os.path.getsize(page), images=5)
    assert listed(tmp_path).unreadable == [half, Unreadable(link, 0, 1), Unreadable(pipe, 0, 1)]
    assert listed(whole).unreadable == []
    assert listed(page).unreadable == [Unreadable(str(page), os.path.getsize(page), 1)]


def test_a_text_file_that_is_named_like_tfrecord_is_one_ref(tmp_path: pathlib.Path):
    [path] = touch(tmp_path, "x.tfrecord")
    [ref] = listed(path).refs
    assert (ref.uri, ref.size) == (path, None)


def test_an_empty_tfrecord_file_holds_no_images(tmp_path: pathlib.Path):
    path = write_examples(tmp_path / "x.tfrecord", [])
    assert "hold no records" in message(path)
    [image] = touch(tmp_path, "a.jpg")
    listing = listed(tmp_path)
    assert (uris(listing), listing.containers) == ([image], [path])


def test_broken_links_are_refs(tmp_path: pathlib.Path):
    for name in ("a.jpg", "b.tfrecord"):
        (tmp_path / name).symlink_to("nowhere")
    expected = [str(tmp_path / "a.jpg"), str(tmp_path / "b.tfrecord")]
    assert uris(listed(tmp_path)) == expected
    assert uris(listed(tmp_path / "*")) == expected
    assert uris(listed(*expected)) == expected


@pytest.mark.parametrize("target", ["{name}", "photo.jpg/below", "x" * 300])
def test_a_link_that_cannot_be_followed_costs_no_other_file(tmp_path: pathlib.Path, target: str):
    """Whatever the order in which the directory is read."""
    names = [f"{number:02d}.jpg" for number in range(40)]
    for name in names[::4]:
        (tmp_path / name).symlink_to(target.format(name=name))
    touch(tmp_path, "photo.jpg", *(name for name in names if name not in names[::4]))
    assert uris(listed(tmp_path)) == [str(tmp_path / name) for name in [*names, "photo.jpg"]]


def test_links_to_files_and_directories_are_followed(tmp_path: pathlib.Path):
    touch(tmp_path, "elsewhere/album/a.jpg", "elsewhere/b.jpg")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "album").symlink_to("../elsewhere/album")
    (photos / "b.jpg").symlink_to("../elsewhere/b.jpg")
    listing = listed(photos)
    assert uris(listing) == [f"{photos}/album/a.jpg", f"{photos}/b.jpg"]
    assert [ref.size for ref in listing.refs] == [19, 19]


def test_a_circle_of_links_is_walked_once(tmp_path: pathlib.Path):
    expected = touch(tmp_path, "a.jpg", "sub/b.jpg")
    (tmp_path / "sub" / "up").symlink_to("..")
    (tmp_path / "sub" / "here").symlink_to(".")
    assert uris(listed(tmp_path)) == expected


def test_a_recursive_glob_counts_no_image_twice_because_of_a_circle(tmp_path: pathlib.Path):
    expected = touch(tmp_path, "a.jpg", "sub/b.jpg")
    for name in ("up", "back"):  # two of them make 2 to the power of 40 paths
        (tmp_path / "sub" / name).symlink_to("..")
    assert uris(listed(tmp_path / "**" / "*.jpg")) == expected


def test_a_directory_that_is_also_linked_is_listed_under_its_own_name(tmp_path: pathlib.Path):
    """Else an image's id would hang on the order in which the directory is read."""
    expected = touch(tmp_path, "m/a.jpg")
    for name in "abcdefnopqrst":
        (tmp_path / name).symlink_to("m")
    assert uris(listed(tmp_path)) == expected


def test_what_is_no_regular_file_is_a_ref_with_a_problem(tmp_path: pathlib.Path):
    for name in ("a.jpg", "b.tfrecord"):
        os.mkfifo(tmp_path / name)
    fifos = [str(tmp_path / "a.jpg"), str(tmp_path / "b.tfrecord")]
    for inputs in ([tmp_path], [tmp_path / "*"], fifos):
        listing = listed(*inputs)
        assert problems(listing) == dict.fromkeys(fifos, "not a regular file")
        assert listing.containers == []


def test_a_name_that_is_not_utf_8_is_a_ref_that_can_be_shown(tmp_path: pathlib.Path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb"):
        pass
    for pattern in (tmp_path, tmp_path / "*", tmp_path / "**"):
        [ref] = listed(pattern).refs
        assert ref.uri == f"{tmp_path}/caf\\xe9.jpg"
        assert "not UTF-8" in ref.problem


def test_a_name_that_is_not_utf_8_hides_no_other_file(tmp_path: pathlib.Path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb"):
        pass
    touch(tmp_path, "caf\\xe9.jpg")
    refs = listed(tmp_path).refs
    assert len(refs) == 2
    assert len([ref for ref in refs if "not UTF-8" in (ref.problem or "")]) == 1


def test_a_directory_that_cannot_be_listed_is_a_ref_with_a_problem(tmp_path: pathlib.Path):
    [image] = touch(tmp_path, "a.jpg")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # deeper than a path may be long
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    listing = listed(tmp_path)
    assert uris(listing)[0] == image
    [(directory, problem)] = problems(listing).items()
    assert "directory cannot be listed: File name too long" in problem
    assert listing.unlisted == [directory]


# Nothing found


def message(*inputs: object, **options) -> str:
    with pytest.raises(UserError) as caught:
        list_images([str(item) for item in inputs], **options)
    assert "--" not in str(caught.value)
    return str(caught.value)


def test_a_pattern_that_matches_nothing_is_named(tmp_path: pathlib.Path):
    images = touch(tmp_path, "a.jpg")
    for pattern in ("missing.jpg", "missing", "*.png", "**/*.png", "[b-z].jpg"):
        told = f"inputs {tmp_path}/{pattern}: matches no file"
        assert message(tmp_path / pattern) == told
        assert message(*images, tmp_path / pattern) == told


def test_a_directory_without_images_says_what_it_has(tmp_path: pathlib.Path):
    touch(tmp_path, "a.txt", "b.txt", "c.tiff")
    text = message(tmp_path)
    assert text.startswith(f"inputs {tmp_path}: no images in this directory")
    assert "2 .txt, 1 .tiff" in text
    assert ".jpeg .jpg" in text


def test_an_empty_directory_is_named(tmp_path: pathlib.Path):
    assert message(tmp_path).startswith(f"inputs {tmp_path}: no images")


def test_only_what_that_directory_has_is_said(tmp_path: pathlib.Path):
    touch(tmp_path, "full/a.jpg", "full/a.txt")
    (tmp_path / "empty").mkdir()
    assert ".txt" not in message(tmp_path / "full", tmp_path / "empty")


def test_as_tfrecord_a_directory_of_images_is_told_what_is_missing(tmp_path: pathlib.Path):
    touch(tmp_path, "a.jpg")
    assert ".tfrecord" in message(tmp_path, input_format="tfrecord")


def test_an_unknown_scheme_is_named():
    assert message("nosuch://bucket/a.jpg").startswith("inputs nosuch://bucket/a.jpg: ")


# Object stores


@pytest.fixture
def bucket() -> Iterator[str]:
    """An object store with some photos in it."""
    for name in ("a.jpg", "album/b.PNG", "album/deep/c.webp", "album/notes.txt", "albums/d.jpg"):
        ObjectStore.objects[f"testfs://bucket/{name}"] = (b"x" * len(name), 12.5)
    yield "testfs://bucket"
    ObjectStore.objects.clear()


def test_a_stores_directory_is_searched_to_its_bottom(bucket: str):
    for pattern in (f"{bucket}/album", f"{bucket}/album/"):
        listing = listed(pattern)
        assert uris(listing) == [f"{bucket}/album/b.PNG", f"{bucket}/album/deep/c.webp"]
        assert listing.passed_over == {".txt": 1}
    assert len(listed(f"{bucket}/").refs) == 4


def test_a_stores_files_and_globs_are_refs(bucket: str):
    [ref] = listed(f"{bucket}/a.jpg").refs
    assert ref == ImageRef(f"{bucket}/a.jpg", f"{bucket}/a.jpg", ref.version, 5)
    assert re.search(r"5.*12\.5", ref.version)
    assert uris(listed(f"{bucket}/*.jpg")) == [f"{bucket}/a.jpg"]
    assert uris(listed(f"{bucket}/**.jpg")) == [f"{bucket}/a.jpg", f"{bucket}/albums/d.jpg"]
    assert uris(listed(f"{bucket}/album/*")) == [
        f"{bucket}/album/b.PNG",
        f"{bucket}/album/notes.txt",
    ]


def test_hidden_folders_and_files_of_a_store_are_counted(bucket: str):
    names = [*(f"{folder}/x.jpg" for folder in HIDDEN), ".thumbnails/deep/y.jpg", ".z.jpg", "._a"]
    for name in names:
        ObjectStore.objects[f"{bucket}/album/{name}"] = (b"x", 1.0)
    listing = listed(f"{bucket}/album")
    assert uris(listing) == [f"{bucket}/album/b.PNG", f"{bucket}/album/deep/c.webp"]
    folders = {f"{folder}/": 1 for folder in HIDDEN}
    assert listing.passed_over == folders | {".txt": 1, ".*.jpg": 1, "._*": 1}
    named = [f"{bucket}/album/.thumbnails/deep/y.jpg", f"{bucket}/album/.thumbnails/x.jpg"]
    assert uris(listed(f"{bucket}/album/.thumbnails/")) == named
    assert uris(listed(f"{bucket}/album/.thumbnails/*.jpg")) == named[1:]
    assert f"{bucket}/album/.z.jpg" not in uris(listed(f"{bucket}/album/*"))
    assert uris(listed(f"{bucket}/album/.*")) == [f"{bucket}/album/._a", f"{bucket}/album/.z.jpg"]


def test_labels_in_a_store_are_the_names_of_parent_directories(bucket: str):
    labels = [ref.label for ref in listed(f"{bucket}/album", label_from_parent=True).refs]
    assert labels == ["album", "deep"]


def test_tfrecord_files_in_a_store_are_opened(bucket: str, tmp_path: pathlib.Path):
    local = pathlib.Path(write_examples(tmp_path / "x", [b"one", 2]))
    ObjectStore.objects[f"{bucket}/album/x.tfrecord"] = (local.read_bytes(), 1.0)
    listing = listed(f"{bucket}/album", id_key="id")
    assert listing.containers == [f"{bucket}/album/x.tfrecord"]
    assert [ref.id for ref in listing.refs if ref.is_record] == ["one", "2"]


def test_a_store_that_has_nothing_of_that_name_is_a_mistake(bucket: str):
    for pattern in (f"{bucket}/missing", f"{bucket}/missing/", f"{bucket}/*.gif"):
        assert message(pattern).startswith(f"inputs {pattern}: ")


@pytest.mark.parametrize("name", ["x[1].jpg", "s*.jpg", "what?.jpg", "a b#1 猫.jpg"])
def test_any_name_in_a_store_can_be_given(bucket: str, name: str):
    ObjectStore.objects[f"{bucket}/odd/x1.jpg"] = (b"x", 1.0)
    ObjectStore.objects[f"{bucket}/odd/s1.jpg"] = (b"x", 1.0)
    ObjectStore.objects[f"{bucket}/odd/what1.jpg"] = (b"x", 1.0)
    ObjectStore.objects[f"{bucket}/odd/{name}"] = (b"x", 1.0)
    assert uris(listed(f"{bucket}/odd/{name}")) == [f"{bucket}/odd/{name}"]


def test_a_stores_directory_of_any_name_can_be_given(bucket: str):
    ObjectStore.objects[f"{bucket}/run [1]/a.jpg"] = (b"x", 1.0)
    assert uris(listed(f"{bucket}/run [1]")) == [f"{bucket}/run [1]/a.jpg"]
