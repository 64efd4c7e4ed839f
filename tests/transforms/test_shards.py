"""Shards: the same refs always make the same shards, every ref in exactly one of them."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import random

import pyarrow.parquet as pq
import pytest

from transforms.refs import ImageRef
from transforms.shards import (
    SHARDS_PER_PLAN_FILE,
    Shard,
    group_into_shards,
    read_shard,
    write_plan,
)


def file_refs(count: int, directory: str = "/photos") -> list[ImageRef]:
    return [
        ImageRef(f"{directory}/{n}.jpg", f"{directory}/{n}.jpg", f"{n}-1", n) for n in range(count)
    ]


def record_refs(uri: str, count: int) -> list[ImageRef]:
    """Records whose ids sort otherwise than their places, as ids of Examples do."""
    return [
        ImageRef(f"{uri} {count - n:06d}", uri, "9-1", 10, record_index=n, offset=26 * n)
        for n in range(count)
    ]


def sizes(shards: list[Shard]) -> list[int]:
    return [len(shard.refs) for shard in shards]


# Grouping


def test_no_refs_make_no_shards():
    assert group_into_shards([], 10) == []


@pytest.mark.parametrize("rows_per_file", [1, 7, 100, 10_000])
def test_every_ref_is_in_exactly_one_shard(rows_per_file: int):
    refs = [*file_refs(300), *record_refs("/a.tfrecord", 50), *record_refs("/b.tfrecord", 51)]
    shards = group_into_shards(refs, rows_per_file)
    grouped = [ref for shard in shards for ref in shard.refs]
    assert len(grouped) == len(refs)
    assert set(grouped) == set(refs)
    assert all(shard.refs for shard in shards)
    assert len({shard.name for shard in shards}) == len(shards)


def test_the_order_of_the_refs_does_not_matter():
    refs = [*file_refs(200), *record_refs("/b.tfrecord", 30), *record_refs("/a.tfrecord", 30)]
    expected = group_into_shards(refs, 16)
    for seed in range(5):
        shuffled = random.Random(seed).sample(refs, len(refs))
        assert group_into_shards(iter(shuffled), 16) == expected


def test_shard_names_are_the_same_on_every_machine_and_in_every_version():
    refs = [*file_refs(3), ImageRef("ü", "/ü.png", "", None)]
    names = [shard.name for shard in group_into_shards(refs, 2)]
    assert names == ["0351a9a04ae57d37", "1c030d665242342b"]
    assert Shard(()).name == "e3b0c44298fc1c14"  # SHA-256 of nothing


def test_files_make_shards_of_about_the_size_asked_for():
    shards = group_into_shards(file_refs(10_000), 100)
    assert len(shards) == 100
    assert min(sizes(shards)) > 50
    assert max(sizes(shards)) < 150


def test_there_are_never_more_shards_than_needed():
    for count in (1, 2, 10, 11, 99):
        assert 1 <= len(group_into_shards(file_refs(count), 10)) <= math.ceil(count / 10)


def test_files_are_sorted_within_a_shard():
    for shard in group_into_shards(file_refs(100), 10):
        ids = [ref.id for ref in shard.refs]
        assert ids == sorted(ids)


def test_a_container_is_cut_in_order_into_equal_shards_of_at_most_the_size_asked_for():
    refs = record_refs("/a.tfrecord", 25)
    shards = group_into_shards(refs[::-1], 10)
    assert sizes(shards) == [9, 9, 7]
    assert [ref for shard in shards for ref in shard.refs] == refs


@pytest.mark.parametrize(
    ("images", "rows_per_file", "at_once", "shards"),
    [
        (10_000, 4096, 1, 3),
        (10_000, 4096, 2, 4),
        (10_000, 4096, 5, 5),
        (2_000, 4096, 2, 2),
        (1_000, 4096, 5, 3),  # none of fewer than 256 images just to have more
        (500, 4096, 2, 1),
        (1_000, 100, 4, 10),  # they are small already
        (0, 4096, 2, 0),
    ],
)
def test_shards_that_are_worked_on_at_once_are_alike(images, rows_per_file, at_once, shards):
    made = group_into_shards(file_refs(images), rows_per_file, at_once=at_once)
    assert len(made) == shards
    assert sum(sizes(made)) == images
    records = group_into_shards(record_refs("/a.tfrecord", images), rows_per_file, at_once=at_once)
    assert len(records) == shards
    assert sum(sizes(records)) == images


def test_containers_that_are_worked_on_at_once_are_not_cut_for_that():
    refs = [ref for name in "ab" for ref in record_refs(f"/{name}.tfrecord", 2_000)]
    assert sizes(group_into_shards(refs, 4096, at_once=2)) == [2_000, 2_000]
    assert sizes(group_into_shards(refs, 4096, at_once=4)) == [1_000] * 4


def test_a_shard_never_mixes_containers_or_containers_and_files():
    refs = [*file_refs(5), *record_refs("/b.tfrecord", 3), *record_refs("/a.tfrecord", 3)]
    shards = group_into_shards(refs, 100)
    assert sizes(shards) == [5, 3, 3]
    assert [{ref.uri for ref in shard.refs} for shard in shards[1:]] == [
        {"/a.tfrecord"},
        {"/b.tfrecord"},
    ]


# Names


def test_a_changed_image_changes_the_name_of_its_shard_only():
    refs = file_refs(100)
    changed = [dataclasses.replace(ref, version="new") if ref is refs[7] else ref for ref in refs]
    before, after = group_into_shards(refs, 10), group_into_shards(changed, 10)
    pairs = list(zip(before, after, strict=True))
    assert [old.name for old, new in pairs if old.name != new.name] == [
        shard.name for shard in before if refs[7] in shard.refs
    ]


def test_what_is_not_the_images_identity_does_not_change_the_name():
    [shard] = group_into_shards(file_refs(3), 10)
    labelled = tuple(dataclasses.replace(ref, label="cat") for ref in shard.refs)
    assert Shard(labelled).name == shard.name


def test_names_tell_apart_where_an_id_ends():
    one = Shard((ImageRef("ab", "/x", "c"),))
    other = Shard((ImageRef("a", "/x", "bc"),))
    assert one.name != other.name


# Plans


def plan_files(directory: pathlib.Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_planned_shard_is_read_back_as_it_was(tmp_path: pathlib.Path):
    refs = (
        ImageRef("/Zürich/猫 1.jpg", "/Zürich/猫 1.jpg", "5-99", 5, label="Zürich"),
        ImageRef("no size", "/broken.jpg", ""),
        ImageRef("42", "gs://b/a.tfrecord", "1-2", None, 2**40, 2**41, "", "id 42 is twice"),
    )
    shards = [Shard(refs), Shard(refs[1:])]
    pointers = write_plan(shards, str(tmp_path), "run")
    assert [read_shard(pointer) for pointer in pointers] == shards
    assert [(pointer.name, pointer.size) for pointer in pointers] == [
        (shards[0].name, 3),
        (shards[1].name, 2),
    ]
    assert plan_files(tmp_path) == ["run-00000.parquet"]


def test_a_plan_of_many_shards_is_several_files(tmp_path: pathlib.Path):
    shards = group_into_shards(record_refs("/a.tfrecord", 2 * SHARDS_PER_PLAN_FILE + 3), 1)
    pointers = write_plan(shards, str(tmp_path), "run")
    names = ["run-00000.parquet", "run-00001.parquet", "run-00002.parquet"]
    assert plan_files(tmp_path) == names
    groups = [pq.ParquetFile(tmp_path / name).num_row_groups for name in names]
    assert groups == [SHARDS_PER_PLAN_FILE, SHARDS_PER_PLAN_FILE, 3]
    assert [pointer.name for pointer in pointers] == [shard.name for shard in shards]
    for index in (0, 255, 256, 511, 512, 514):
        assert read_shard(pointers[index]) == shards[index]


def test_a_shard_of_very_many_refs_is_one_row_group(tmp_path: pathlib.Path):
    [shard] = group_into_shards(record_refs("/a.tfrecord", 70_000), 10**6)
    [pointer] = write_plan([shard], str(tmp_path), "run")
    assert pointer.size == 70_000
    assert read_shard(pointer) == shard


def test_a_plan_of_nothing_writes_nothing(tmp_path: pathlib.Path):
    assert write_plan([], str(tmp_path), "run") == []
    assert plan_files(tmp_path) == []
