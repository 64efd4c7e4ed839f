"""What the person sees while parts are committed, on a terminal and in a log."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
import select
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.output.directory import Output, open_output
from pipeline.terminal import progress
from pipeline.terminal.progress import Progress
from tests.helpers.commands import PATIENCE_SECONDS
from transforms.batches import BatchPlace, FeatureBatch, ImageRow
from transforms.dataset.columns import PartFormat
from transforms.dataset.layout import part_name
from transforms.dataset.writer import PartWriter
from transforms.errors import CorruptImageError, error_row
from transforms.machine import tally
from transforms.refs import ImageRef

A, B = "a" * 16, "b" * 16


def commit(output: pathlib.Path, shard: str, rows: int, errors: int) -> None:
    refs = [ImageRef(f"{shard}/{number}", "a.png", "1") for number in range(rows + errors)]
    batch = FeatureBatch(
        np.ones((rows, 2), np.float32),
        tuple(ImageRow(ref, 20, 30) for ref in refs[:rows]),
        tuple(error_row(ref, "decode", CorruptImageError("x")) for ref in refs[rows:]),
        BatchPlace(shard, rows + errors, 0, rows + errors),
    )
    writer = PartWriter(str(output), PartFormat("feature_vector", width=2), batch.place)
    writer.append(batch)
    writer.commit()


class Screen:
    """The other end of stderr: what was written to it so far."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self.text = ""

    def wait_for(self, pattern: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Reads until `pattern` was seen; returns the text that matches it."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.text)):
            ready, _, _ = select.select([self._descriptor], [], [], deadline - time.monotonic())
            assert ready, f"no {pattern!r} in {self.text!r}"
            self.text += os.read(self._descriptor, 65536).decode()
        return match[0]

    def read_all(self) -> str:
        """All that was written; nothing more is waited for."""
        while select.select([self._descriptor], [], [], 0)[0]:
            self.text += os.read(self._descriptor, 65536).decode()
        return self.text


@contextlib.contextmanager
def stderr_to(reader: int, writer: int) -> Iterator[Screen]:
    before = sys.stderr
    with open(writer, "w", buffering=1, encoding="utf-8") as stderr:
        sys.stderr = stderr
        try:
            yield Screen(reader)
        finally:
            sys.stderr = before
            os.close(reader)


def log() -> contextlib.AbstractContextManager[Screen]:
    """Stderr is a pipe, as in a job scheduler's log."""
    return stderr_to(*os.pipe())


def terminal() -> contextlib.AbstractContextManager[Screen]:
    """Stderr is a terminal of 100 columns."""
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    return stderr_to(reader, writer)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for parts and tells of them without a pause worth the name."""
    monkeypatch.setattr(progress, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)


# In a log


def test_a_log_gets_plain_lines_with_counts_rate_and_time_left(
    tmp_path: pathlib.Path, often: None
) -> None:
    with log() as screen, Progress(Output(str(tmp_path)), 2000):
        assert screen.wait_for(r"0 of 2,000 images.*\n").endswith("0 errors, no part yet\n")
        commit(tmp_path, A, 1200, 300)
        line = screen.wait_for(r"1,500 of 2,000 images.*\n")
        assert re.search(r", [\d,]+\.\d/s, 300 errors, \d+ min left\n$", line)
        commit(tmp_path, B, 500, 0)
        screen.wait_for(r"2,000 of 2,000 images, .*/s, 300 errors, 0 min left\n")
        assert "\r" not in screen.text
        assert "\x1b" not in screen.text


def test_a_short_job_writes_nothing_to_a_log(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_POLL_SECONDS", 0.001)
    with log() as screen:
        with Progress(Output(str(tmp_path)), 10):
            commit(tmp_path, A, 10, 0)
        assert screen.read_all() == ""


def test_parts_of_earlier_runs_do_not_count(tmp_path: pathlib.Path, often: None) -> None:
    commit(tmp_path, A, 7, 3)
    output = open_output(str(tmp_path)).refresh()
    with log() as screen, Progress(output, 5):
        screen.wait_for(r"0 of 5 images.*0 errors, no part yet")
        commit(tmp_path, B, 4, 1)
        screen.wait_for(r"5 of 5 images.*1 errors")
        assert "10 of" not in screen.text


def test_a_part_that_cannot_be_read_yet_does_not_end_the_progress(
    tmp_path: pathlib.Path, often: None
) -> None:
    with log() as screen, Progress(Output(str(tmp_path)), 5):
        screen.wait_for(r"0 of 5 images")
        unreadable = tmp_path / part_name("f" * 16)
        unreadable.write_bytes(b"not there yet")
        commit(tmp_path, A, 4, 1)
        unreadable.unlink()
        screen.wait_for(r"5 of 5 images")


def test_the_jobs_own_view_of_the_output_is_left_alone(tmp_path: pathlib.Path, often: None) -> None:
    output = Output(str(tmp_path))
    with log() as screen, Progress(output, 5):
        commit(tmp_path, A, 4, 1)
        screen.wait_for(r"5 of 5 images")
    assert output.parts == {}


def test_images_count_as_they_are_done_and_not_only_by_parts(
    tmp_path: pathlib.Path, often: None
) -> None:
    with tally.kept() as counted, log() as screen, Progress(Output(str(tmp_path)), 20, counted):
        screen.wait_for(r"0 of 20 images")
        tally.add(5, 1)
        line = screen.wait_for(r"6 of 20 images.*\n")
        assert re.search(r", [\d.]+/s, 1 errors, \d+ min left\n$", line)
        tally.add(12, 0)
        tally.add(12, 0)  # a shard that is done again
        screen.wait_for(r"20 of 20 images")
        commit(tmp_path, A, 8, 2)
    assert "30 of" not in screen.text


# On a terminal


def test_a_terminal_shows_a_bar_with_counts_and_errors(tmp_path: pathlib.Path, often: None) -> None:
    with terminal() as screen, Progress(Output(str(tmp_path)), 2000):
        screen.wait_for(r"0%\|.*\| 0/2000 \[")
        commit(tmp_path, A, 1200, 300)
        screen.wait_for(r"75%\|.*\| 1500/2000 \[.*image/s, 300 errors\]")
        commit(tmp_path, B, 500, 0)
        screen.wait_for(r"100%\|.*\| 2000/2000 \[.*300 errors\]")
        assert " of 2,000 images" not in screen.text  # no plain lines beside the bar


def test_the_bar_ends_with_all_that_was_committed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_POLL_SECONDS", 3600.0)
    with terminal() as screen:
        with Progress(Output(str(tmp_path)), 10):
            commit(tmp_path, A, 8, 2)
        text = screen.read_all()
    assert re.match(r"100%\|.*\| 10/10 \[.*2 errors\]", text.rstrip().split("\r")[-1])
    assert text.endswith("\n")  # what is printed next begins a line


@pytest.mark.parametrize("error", [RuntimeError("the runner failed"), KeyboardInterrupt()])
def test_a_job_that_fails_ends_the_bar_and_keeps_its_error(
    tmp_path: pathlib.Path, often: None, error: BaseException
) -> None:
    with terminal() as screen:
        with pytest.raises(type(error)) as info, Progress(Output(str(tmp_path)), 10):
            raise error
        assert screen.read_all().endswith("\n")
    assert info.value is error
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_progress_ends_without_waiting_for_its_next_look(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_POLL_SECONDS", 3600.0)
    started = time.monotonic()
    with log(), Progress(Output(str(tmp_path)), 10):
        pass
    assert time.monotonic() - started < 60
    assert "progress" not in {thread.name for thread in threading.enumerate()}
