"""Where a run and `compact` look at their lease before they clear something away."""

from __future__ import annotations

import collections
import pathlib
import shutil
import sys

import pytest

from pipeline import compact
from pipeline.output import lease
from pipeline.output.directory import Output
from pipeline.output.lease import LeaseLostError
from tests.helpers import small_night
from tests.helpers.outputs import A, commit, names_in
from transforms.errors import CorruptImageError

Looks = collections.Counter[str]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """How often each function looks."""
    counted: Looks = collections.Counter()

    def look() -> None:
        counted[sys._getframe(1).f_code.co_name] += 1

    monkeypatch.setattr(lease, "look", lambda output, run_id: look)
    small_night.make_up(monkeypatch.setattr)
    return counted


def test_before_leftovers_are_cleared_away_and_before_copies_are_made(
    tmp_path: pathlib.Path, looks: Looks
) -> None:
    out = str(tmp_path / "out")
    assert small_night.run(out, small_night.evening()) == 0
    assert (looks["_work"], looks["conclude"]) == (1, 0)
    commit(tmp_path / "out" / "_staging", A, 2)  # of other settings
    looks.clear()
    assert small_night.run(out, small_night.morning()) == 0
    assert (looks["_work"], looks["conclude"]) == (2, 1)


def test_before_a_run_that_failed_its_checks_says_so(tmp_path: pathlib.Path, looks: Looks) -> None:
    flags = ("--max_error_rate", "0")
    assert small_night.run(str(tmp_path / "out"), small_night.evening(), *flags) == 1
    assert looks["finish_unpublished"] == 1


def test_before_compact_clears_away(tmp_path: pathlib.Path, looks: Looks) -> None:
    assert small_night.run(str(tmp_path / "out"), small_night.evening()) == 0
    assert compact.main([str(tmp_path / "out")]) == 0
    assert looks["compact"] == 1


def test_who_lost_the_output_clears_nothing_away(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out")
    small_night.make_up(monkeypatch.setattr)
    assert small_night.run(out, small_night.evening()) == 0
    commit(tmp_path / "out" / "_staging", A, 2, [CorruptImageError("y")])
    before = names_in(tmp_path)

    def lost() -> None:
        raise LeaseLostError

    monkeypatch.setattr(lease, "look", lambda output, run_id: lost)
    with pytest.raises(LeaseLostError):
        small_night.run(out, small_night.morning())
    assert names_in(tmp_path) == before
    shutil.rmtree(tmp_path / "out" / "_staging")
    (tmp_path / "out" / "_copies").mkdir()
    before = names_in(tmp_path)
    with pytest.raises(LeaseLostError):
        compact.compact(Output(out).refresh(), 10, compact.Keeping())
    assert names_in(tmp_path) == before
