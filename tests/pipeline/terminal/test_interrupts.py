"""Ctrl-C while a job runs on other machines: it is cancelled, and what became of it is said."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

import pytest

from pipeline.terminal import interrupts
from tests.helpers.commands import run_python


@pytest.fixture
def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Callable[[], object]], list[str]]:
    """What is said when Ctrl-C comes and the job is to be cancelled in this way."""
    ended = []
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: ended.append("job server"))

    def call(cancel: Callable[[], object]) -> list[str]:
        with pytest.raises(KeyboardInterrupt), interrupts.cancelling(cancel, "FlinkRunner"):
            raise KeyboardInterrupt
        assert ended == ["job server"]
        return capsys.readouterr().err.splitlines()

    return call


def test_a_job_is_cancelled(said):
    cancelled = []
    assert said(lambda: cancelled.append("job")) == [
        "cancelling the job of FlinkRunner",
        "the job of FlinkRunner is cancelled",
    ]
    assert cancelled == ["job"]


def test_a_job_that_cannot_be_cancelled_is_to_be_ended_by_hand(said):
    def fails() -> None:
        raise OSError("no route\nto host")

    assert said(fails)[1] == (
        "the job of FlinkRunner cannot be cancelled: no route to host; end it there, before the "
        "same command continues"
    )


def test_a_runner_that_does_not_answer_holds_nobody_up(said, monkeypatch):
    monkeypatch.setattr(interrupts, "_PATIENCE_SECONDS", 0.05)
    never = threading.Event()
    assert "cannot be cancelled: no answer within 0.05 s" in said(never.wait)[1]
    never.set()


def test_nothing_is_cancelled_when_nobody_interrupts():
    with interrupts.cancelling(pytest.fail, "FlinkRunner"):
        pass
    with pytest.raises(ZeroDivisionError), interrupts.cancelling(pytest.fail, "FlinkRunner"):
        raise ZeroDivisionError


HELD_UP = """
import os, signal, threading
from pipeline.terminal import interrupts

interrupts._LAST_RESORT_SECONDS = 0.1
never = threading.Event()
with interrupts.noticed("go on"):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        never.wait()
    except KeyboardInterrupt:
        never.wait()
"""


def test_what_does_not_end_after_a_signal_is_ended():
    done = run_python(HELD_UP)
    assert (done.code, done.out, done.err) == (143, "", "interrupted: go on\n")
