"""A run that lists and loads is seen before it takes the output."""

from __future__ import annotations

import pathlib

import pytest

from pipeline.output.announcement import announced, is_announced


def test_it_is_there_as_long_as_the_run(tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.setenv("BEAM_IMAGE_FEATURES_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert not is_announced("out")
    with announced("out"):
        assert is_announced(f"{tmp_path}/out")
        with announced("out"):  # a second one, which will be told that the output is busy
            assert is_announced("out")
        assert is_announced("out/") and is_announced("out")
        assert not is_announced("other")
    assert not is_announced("out")
    assert list((tmp_path / "cache").rglob("*")) == [tmp_path / "cache" / "runs"]


@pytest.mark.parametrize("cache", ["/proc/nowhere", "/dev/null/x"])
def test_without_room_nothing_is_announced(cache: str, monkeypatch) -> None:
    monkeypatch.setenv("BEAM_IMAGE_FEATURES_CACHE", cache)
    with announced("out"):
        assert not is_announced("out")
