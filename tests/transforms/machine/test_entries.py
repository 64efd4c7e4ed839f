"""Entries of the cache: whole, or made anew."""

from __future__ import annotations

import os
import pathlib
import shutil

import pytest

from transforms.machine import entries

DAMAGES = {
    "truncated": lambda entry: os.truncate(entry / "sub" / "weights", 3),
    "one flipped bit": lambda entry: (entry / "sub" / "weights").write_bytes(b"weighus"),
    "a file is gone": lambda entry: os.remove(entry / "graph"),
    "a file more": lambda entry: (entry / "other").write_bytes(b""),
    "the marker is gone": lambda entry: os.remove(entry / entries.MARKER),
    "the marker is empty": lambda entry: (entry / entries.MARKER).write_bytes(b""),
    "the marker is no text": lambda entry: (entry / entries.MARKER).write_bytes(b"\xff"),
}


def write(directory: pathlib.Path) -> str:
    (directory / "sub").mkdir(parents=True)
    (directory / "graph").write_bytes(b"graph")
    (directory / "sub" / "weights").write_bytes(b"weights")
    return str(directory)


@pytest.fixture
def entry(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "work").mkdir()
    entries.keep(write(tmp_path / "work" / "made"), str(tmp_path / "entry"))
    return tmp_path / "entry"


def test_an_entry_is_what_was_put_into_it(entry, tmp_path):
    assert entries.is_whole(str(entry))
    assert (entry / "graph").read_bytes() == b"graph"
    assert entries.tree_sha256(str(entry)) == entries.tree_sha256(write(tmp_path / "same"))


def test_an_entry_may_be_copied(entry, tmp_path):
    shutil.copytree(entry, tmp_path / "copy")
    assert entries.is_whole(str(tmp_path / "copy"))


def test_what_is_not_there_is_not_whole(tmp_path):
    assert not entries.is_whole(str(tmp_path / "nothing"))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_replaced(entry, tmp_path, damage):
    damage(entry)
    assert not entries.is_whole(str(entry))
    entries.keep(write(tmp_path / "work" / "again"), str(entry))
    assert entries.is_whole(str(entry))
    assert (entry / "sub" / "weights").read_bytes() == b"weights"


def test_a_whole_entry_stays_as_it_is(entry, tmp_path):
    inode = entry.stat().st_ino
    entries.keep(write(tmp_path / "work" / "again"), str(entry))
    assert entry.stat().st_ino == inode


def test_a_damaged_entry_that_cannot_be_replaced_is_named(entry, tmp_path, monkeypatch):
    (entry / "graph").write_bytes(b"")
    made = write(tmp_path / "work" / "again")
    rename = os.rename

    def read_only(source: str, target: str) -> None:
        if source == str(entry):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", read_only)
    with pytest.raises(OSError, match="damaged and cannot be replaced") as refused:
        entries.keep(made, str(entry))
    assert str(entry) in str(refused.value)
    assert "BEAM_IMAGE_FEATURES_CACHE" in str(refused.value)
