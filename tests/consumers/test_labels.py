"""Which image is of which class: columns, folders, CSV files; what is said of each that fails."""

from __future__ import annotations

import pathlib

import pyarrow as pa
import pytest

from consumers.labels import (
    groups_of_column,
    labels_of_column,
    labels_of_csv,
    labels_of_folders,
)
from transforms.errors import UserError

IDS = ["/photos/roses/1.jpg", "/photos/roses/2.jpg", "/photos/daisies/1.jpg", "/photos/x.jpg"]


def column(values: list, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@pytest.fixture
def write_csv(tmp_path: pathlib.Path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "labels.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def test_a_column_of_text_or_numbers_gives_one_label_an_image():
    labels = labels_of_column(column(["b", None, "a", "b", ""]), "label")
    assert (labels.rows.tolist(), labels.targets.tolist()) == ([0, 2, 3], [1, 0, 1])
    assert (labels.classes, labels.unlabelled) == (("a", "b"), 2)
    assert labels_of_column(column([10, 9, 10]), "label").classes == ("9", "10")


def test_a_column_of_lists_gives_several():
    labels = labels_of_column(column([["red", "round"], [], None, ["red"]]), "label")
    assert labels.targets.tolist() == [[True, True], [False, False], [True, False]]
    assert (labels.rows.tolist(), labels.unlabelled) == ([0, 1, 3], 1)


def test_a_column_of_something_else_is_named_with_its_type():
    with pytest.raises(UserError, match="label_column price: holds double, not labels"):
        labels_of_column(column([0.5]), "price")


def test_the_folders_right_below_the_directory_are_the_classes():
    labels = labels_of_folders([*IDS, "/photos/roses/old/3.jpg"], "/photos/")
    assert labels.classes == ("daisies", "roses")
    assert labels.targets.tolist() == [1, 1, 0, 1]
    assert labels.unlabelled == 1


def test_a_csv_names_images_by_their_ids_or_the_ends_of_them(write_csv):
    path = write_csv("﻿split,label,id\nx,rose,/photos/roses/1.jpg\nx,daisy,daisies/1.jpg\n")
    labels = labels_of_csv(path, IDS, is_multi_label=False)
    assert (labels.rows.tolist(), labels.classes, labels.unlabelled) == (
        [0, 2],
        ("daisy", "rose"),
        2,
    )


def test_lines_of_a_csv_add_up_where_an_image_may_be_of_several_classes(write_csv):
    path = write_csv("id,label\nx.jpg,red\nx.jpg,round\nroses/2.jpg,red\n")
    labels = labels_of_csv(path, IDS, is_multi_label=True)
    assert labels.targets.tolist() == [[True, False], [True, True]]
    with pytest.raises(UserError, match=r"line 3: x\.jpg is red and round"):
        labels_of_csv(path, IDS, is_multi_label=False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,label\n1.jpg,rose\n", "1.jpg may be /photos/roses/1.jpg or /photos/daisies/1.jpg"),
        ("id,label\nnowhere.jpg,rose\n", "matches no image: it names 'nowhere.jpg'"),
        ("file,label\na,b\n", "has no column id; its first line has file, label"),
        ("id,label\n", "names no image"),
        ("", "has no column id; its first line has none"),
        (b"id,label\n\xff,b\n", "cannot be read"),
    ],
)
def test_a_csv_that_cannot_be_used_is_told_in_one_line(write_csv, text, told):
    with pytest.raises(UserError, match=r"labels_csv .*labels\.csv: ") as caught:
        labels_of_csv(write_csv(text), IDS, is_multi_label=False)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_csv_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv: cannot be read: No such file"):
        labels_of_csv(str(tmp_path / "nowhere.csv"), IDS, is_multi_label=False)


def test_images_without_a_group_are_groups_of_their_own():
    assert groups_of_column(column(["p1", None, "p2", "p1", None]), "patient").tolist() == [
        0,
        2,
        1,
        0,
        3,
    ]
    with pytest.raises(UserError, match="group_column price: holds double"):
        groups_of_column(column([0.5]), "price")
