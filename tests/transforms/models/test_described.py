"""What a model says of itself: read as data that anybody may have written."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import pytest

from tests.helpers.classifiers import DESCRIPTION, LABELS
from transforms.errors import UserError
from transforms.models import builtin
from transforms.models.described import read_description, write_description
from transforms.models.source import ModelSource


def read(directory: pathlib.Path) -> Any:
    return read_description(ModelSource(name="my/model", path=str(directory)))


def refusal(directory: pathlib.Path) -> str:
    with pytest.raises(UserError) as info:
        read(directory)
    told = str(info.value)
    start = "model my/model: assets/image_classifier.json, in which the model describes itself"
    assert told.startswith(start) and len(told.splitlines()) == 1
    return told


@pytest.fixture
def described(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory in which there is nothing but the description."""
    write_description(DESCRIPTION, str(tmp_path))
    return tmp_path


def file_of(directory: pathlib.Path) -> pathlib.Path:
    return directory / "assets" / "image_classifier.json"


@pytest.mark.parametrize(
    "description",
    [
        DESCRIPTION,
        dataclasses.replace(DESCRIPTION, activation="sigmoid", labels=("Katze 🐈", " b ", "日本")),
        dataclasses.replace(DESCRIPTION, task="feature_vector", activation="none", labels=()),
    ],
)
def test_what_is_written_is_read(tmp_path, description):
    write_description(description, str(tmp_path))
    assert read(tmp_path) == description
    assert json.loads(file_of(tmp_path).read_text("utf-8"))["format"] == 1


def test_a_model_that_says_nothing(tmp_path):
    assert read(tmp_path) is None
    (tmp_path / "assets").mkdir()
    assert read(tmp_path) is None
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "assets").symlink_to(tmp_path / "elsewhere")
    assert read(tmp_path / "other") is None
    assert read_description(ModelSource(name="a.keras")) is None


def test_the_builtin_says_the_same_as_ever():
    found = read_description(ModelSource(task="classification"))
    assert found is not None
    assert (found.labels, found.activation) == (builtin.class_names(), "softmax")
    vectors = read_description(ModelSource())
    assert vectors is not None
    assert (vectors.labels, vectors.activation, vectors.image_size) == ((), "none", (224, 224))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 2}, "another format"),
        ({"format": None}, "format is missing"),
        ({"task": ["classification"]}, "task is not as it should be"),
        ({"task": "feature_vector"}, "do not fit each other"),
        ({"activation": "none"}, "do not fit each other"),
        ({"activation": "relu"}, "activation is not as it should be"),
        ({"multi_label": True}, "do not fit each other"),
        ({"image_size": [0, 32]}, "image_size is not as it should be"),
        ({"image_size": [32, True]}, "image_size is not as it should be"),
        ({"image_size": [32, 10**9]}, "image_size is not as it should be"),
        ({"image_size": None}, "image_size is missing"),
        ({"labels": 3}, "labels is not as it should be"),
        ({"labels": []}, "do not fit each other"),
        ({"labels": ["a", "b\nc"]}, "class 1 is called 'b\\nc'"),
        ({"labels": ["a", ""]}, "class 1 is called ''"),
        ({"labels": ["\x1b[31m"]}, "class 0 is called '\\x1b[31m'"),
        ({"program": "\x1b[31m"}, "program is not as it should be"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(described, change, told):
    facts = json.loads(file_of(described).read_text("utf-8")) | change
    facts = {name: value for name, value in facts.items() if value is not None}
    file_of(described).write_text(json.dumps(facts))
    assert told in refusal(described)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "Expecting value"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "it is no object"),
        (b"\xff\xfe", "it is no UTF-8"),
        (b'{"format": 1' + b"0" * 10_000 + b"}", "4300 digits"),
    ],
)
def test_a_damaged_file_is_named(described, content, told):
    file_of(described).write_bytes(content)
    assert told in refusal(described)


def test_a_file_without_end_is_not_read(described):
    os.truncate(file_of(described), 2**40)
    assert "has more than 33,554,432 bytes" in refusal(described)
    file_of(described).unlink()
    os.mkfifo(file_of(described))
    assert "no regular file" in refusal(described)


def test_no_link_is_followed(described, tmp_path):
    secret = tmp_path / "elsewhere.json"
    file_of(described).rename(secret)
    file_of(described).symlink_to(secret)
    assert "is a link" in refusal(described)
    file_of(described).unlink()
    secret.rename(file_of(described))
    (described / "assets").rename(tmp_path / "real")
    (described / "assets").symlink_to(tmp_path / "real")
    assert "is a link" in refusal(described)


def test_more_classes_than_there_may_be(described):
    facts = json.loads(file_of(described).read_text("utf-8"))
    file_of(described).write_text(json.dumps(facts | {"labels": ["x"] * 1_000_001}))
    assert "1,000,001 classes" in refusal(described)


def test_the_digest_of_a_model_holds_its_description(described):
    from transforms.machine.entries import tree_sha256

    before = tree_sha256(str(described))
    other = dataclasses.replace(DESCRIPTION, labels=(*LABELS[:2], "another"))
    write_description(other, str(described))
    assert tree_sha256(str(described)) != before
