"""A model's directory appears at once or not at all, whatever was there and whoever is killed."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

from consumers.export import directory
from consumers.export.directory import appears_at_once
from tests.helpers.commands import run
from transforms.errors import UserError


def write(path: str, text: str) -> None:
    (pathlib.Path(path) / "variables").mkdir()
    (pathlib.Path(path) / "variables" / "data").write_text(text)
    (pathlib.Path(path) / "saved_model.pb").write_text(text)


def text_of(path: pathlib.Path) -> str:
    texts = {(path / name).read_text() for name in ("saved_model.pb", "variables/data")}
    assert len(texts) == 1
    return texts.pop()


def save(final: pathlib.Path, text: str, overwrite: bool = False) -> None:
    with appears_at_once(str(final), overwrite) as made:
        write(made, text)


def mistake(final: object, overwrite: bool = False) -> str:
    with pytest.raises(UserError) as info, appears_at_once(str(final), overwrite):
        raise AssertionError("nothing is to be written")
    told = str(info.value)
    assert told.startswith(f"{final}: ") and len(told.splitlines()) == 1
    return told


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of taking another's place: what the filesystem can, and what all can."""
    if request.param == "two renames":
        monkeypatch.setattr(directory, "_exchanged", lambda one, other: False)
    return request.param


def test_it_is_not_there_before_the_end_and_whole_then(tmp_path):
    final = tmp_path / "new" / "model"
    with appears_at_once(str(final)) as made:
        write(made, "one")
        assert not final.exists()
    assert text_of(final) == "one"
    assert os.listdir(tmp_path / "new") == ["model"]
    assert final.stat().st_mode == (tmp_path / "new").stat().st_mode  # as the umask has it


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "model").mkdir()
    save(tmp_path / "model", "one")
    assert text_of(tmp_path / "model") == "one"


def test_a_model_that_is_there_is_replaced_only_if_asked(tmp_path, way):
    final = tmp_path / "model"
    save(final, "one")
    (final / "more").write_text("of the old one")
    assert "holds something already; overwrite=True replaces a model" in mistake(final)
    save(final, "two", overwrite=True)
    assert text_of(final) == "two"
    assert os.listdir(tmp_path) == ["model"] and not (final / "more").exists()


def test_what_is_no_model_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("x")
    told = mistake(tmp_path / "photos", overwrite=True)
    assert "no saved_model.pb: only a model is ever replaced" in told
    (tmp_path / "file").write_text("x")
    assert "is a file" in mistake(tmp_path / "file", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["file", "photos"]


def test_no_link_is_followed(tmp_path, way):
    save(tmp_path / "elsewhere", "one")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert "is a link" in mistake(tmp_path / "link", overwrite=True)
    model = tmp_path / "model"
    save(model, "one")
    (model / "linked").symlink_to(tmp_path / "elsewhere")
    save(model, "two", overwrite=True)
    assert text_of(tmp_path / "elsewhere") == "one"


def test_other_machines_are_not_written_to():
    assert "give a directory on this machine" in mistake("gs://bucket/model")


def test_an_error_leaves_what_was_there(tmp_path, way):
    final = tmp_path / "model"
    for before in ([], ["model"]):
        with pytest.raises(RuntimeError), appears_at_once(str(final), True) as made:
            write(made, "two")
            raise RuntimeError
        assert os.listdir(tmp_path) == before
        save(final, "one", overwrite=True)
    assert text_of(final) == "one"


def test_who_was_first_stays(tmp_path):
    final = tmp_path / "model"
    with pytest.raises(UserError, match="holds something already"), appears_at_once(str(final)):
        save(final, "of another process")
    assert text_of(final) == "of another process"
    assert os.listdir(tmp_path) == ["model"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "cannot be written" in mistake(tmp_path / "file" / "model")


_SAVES = """
import pathlib, sys
from consumers.export import directory
from tests.consumers.export.test_directory import save
if sys.argv[2] == "two renames":
    directory._exchanged = lambda one, other: False
save(pathlib.Path(sys.argv[1]), "two", overwrite=True)
"""


@pytest.mark.parametrize(
    ("place", "way", "there"),
    [
        ("before_model_appears", "exchange", "one"),
        ("after_model_appeared", "exchange", "two"),
        ("between_models", "two renames", None),
        ("after_model_appeared", "two renames", "two"),
    ],
)
def test_killed_the_old_or_the_new_one_is_there_and_the_next_one_cleans_up(
    tmp_path, place, way, there
):
    final = tmp_path / "model"
    save(final, "one")
    killed = {**os.environ, "BEAM_IMAGE_FEATURES_KILL_AT": place}
    done = run([sys.executable, "-c", _SAVES, final, way], env=killed)
    assert done.code == -9
    if there:
        assert text_of(final) == there
        assert len(os.listdir(tmp_path)) == 2
    # Where the filesystem cannot exchange two directories, the next one puts the old one back.
    assert "holds something already" in mistake(final)
    assert text_of(final) == (there or "one")
    save(final, "three", overwrite=True)
    assert text_of(final) == "three" and os.listdir(tmp_path) == ["model"]


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    final = tmp_path / "model"
    with appears_at_once(str(final)) as ours:
        with appears_at_once(str(final)) as theirs:
            write(theirs, "one")
        assert os.path.isdir(ours)
        write(ours, "two")
        (pathlib.Path(final) / "saved_model.pb").unlink()
        (pathlib.Path(final) / "variables" / "data").unlink()
        (pathlib.Path(final) / "variables").rmdir()
    assert text_of(final) == "two"
