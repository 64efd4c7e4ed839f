"""The lease: one run at a time, a dead one is taken over, and who lost it commits nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pipeline.output import lease
from pipeline.output.directory import Output
from pipeline.output.lease import Lease, LeaseLostError
from tests.helpers.commands import PATIENCE_SECONDS, run_python, start, within_patience
from tests.helpers.leases import elsewhere
from transforms.errors import UserError
from transforms.storage import conditional_writes
from transforms.storage.conditional_writes import StoredText


def path_of(directory: pathlib.Path) -> pathlib.Path:
    return directory / "_lease.json"


def write(directory: pathlib.Path, found: Lease) -> None:
    path_of(directory).write_text(json.dumps(dataclasses.asdict(found)))


def refusal(directory: pathlib.Path) -> str:
    """What a second run is told: one line, and it takes nothing."""
    before = path_of(directory).read_text()
    with pytest.raises(UserError) as info, lease.held(Output(str(directory)), "second"):
        pass
    assert path_of(directory).read_text() == before
    message = str(info.value)
    assert message.startswith(f"--output {directory}: ")
    assert len(message.splitlines()) == 1
    return message


def in_a_process(call: str, **popen: object) -> subprocess.Popen[str]:
    """Runs a function of this module in a process of its own."""
    code = f"from tests.pipeline.output import test_lease as t; t.{call}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} | popen
    return start([sys.executable, "-c", code], **pipes)


def hold(directory: str, run_id: str) -> None:
    """Holds the lease until standard input ends."""
    with lease.held(Output(directory), run_id):
        print("held", flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def holding(directory: pathlib.Path, run_id: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease."""
    call = f"hold({str(directory)!r}, {run_id!r})"
    with in_a_process(call) as process, within_patience(process):
        assert process.stdout.readline() == "held\n"
        yield process


# One at a time


def test_a_lease_is_there_while_it_is_held_and_gone_afterwards(tmp_path: pathlib.Path) -> None:
    output = Output(str(tmp_path / "new" / "out"))
    assert lease.read_lease(output) is None
    with lease.held(output, "first") as dead:
        assert dead is None
        mine = lease.read_lease(output)
        assert (mine.run_id, mine.pid) == ("first", os.getpid())
        assert mine.seems_live()
    assert os.listdir(output.directory) == []


def test_a_lease_ends_with_a_run_that_fails(tmp_path: pathlib.Path) -> None:
    with pytest.raises(KeyboardInterrupt), lease.held(Output(str(tmp_path)), "first"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_second_run_in_this_process_is_told_who_is_at_work(tmp_path: pathlib.Path) -> None:
    output = Output(str(tmp_path))
    with lease.held(output, "first"):
        message = refusal(tmp_path)
        assert f"run first on {os.uname().nodename} (process {os.getpid()}, since 20" in message
        assert "wait for it or stop it" in message
        lease.check_held(str(path_of(tmp_path)), "first")
    with lease.held(output, "second"):
        pass


def test_a_second_run_beside_a_live_process_is_told_who_is_at_work(tmp_path: pathlib.Path) -> None:
    with holding(tmp_path, "first") as process:
        assert f"run first on {os.uname().nodename} (process {process.pid}" in refusal(tmp_path)
        with pytest.raises(UserError, match="run first"):
            lease.refuse_if_held(Output(str(tmp_path)))
    assert os.listdir(tmp_path) == []


def test_of_runs_that_start_at_once_exactly_one_gets_the_lease(tmp_path: pathlib.Path) -> None:
    call = f"race({str(tmp_path)!r}, runners=8, rounds=10)"
    rounds = run_python(f"from tests.helpers.leases import race; {call}").out.splitlines()
    assert [sorted(results.split()) for results in rounds] == [["held"] + ["refused"] * 7] * 10
    assert os.listdir(tmp_path) == []


# Dead runs


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_run_is_taken_over_at_once(tmp_path: pathlib.Path, reaped: bool) -> None:
    with holding(tmp_path, "first") as process:
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
        assert path_of(tmp_path).exists()
        lease.refuse_if_held(Output(str(tmp_path)))
        with lease.held(Output(str(tmp_path)), "second") as dead:
            assert (dead.run_id, dead.pid) == ("first", process.pid)
            assert lease.read_lease(Output(str(tmp_path))).run_id == "second"
    assert os.listdir(tmp_path) == []


def test_a_later_process_of_the_same_number_is_not_the_run(tmp_path: pathlib.Path) -> None:
    """As after a restart in a container, where each first process has the number 1."""
    with lease.held(Output(str(tmp_path)), "first"):
        mine = lease.read_lease(Output(str(tmp_path)))
    write(tmp_path, dataclasses.replace(mine, process_started=mine.process_started - 1))
    with lease.held(Output(str(tmp_path)), "second") as dead:
        assert dead.run_id == "first"


def test_a_run_on_another_machine_is_live_while_it_renews_its_lease(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by the clock of who looks, whatever that of the other machine says."""
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.001)
    renewals = (elsewhere(renewed=float(second)) for second in itertools.count())
    write(tmp_path, next(renewals))
    read_text = conditional_writes.read_text

    def read_and_renew(path: str, most: int) -> StoredText | None:
        found = read_text(path, most)
        write(tmp_path, next(renewals))
        return found

    monkeypatch.setattr(conditional_writes, "read_text", read_and_renew)
    with (
        pytest.raises(lease.OutputBusyError, match="run far on other-host"),
        lease.held(Output(str(tmp_path)), "second"),
    ):
        pass


@pytest.mark.parametrize("ahead", [-1e6, 0.0, 1e6])
def test_a_run_on_another_machine_that_renews_nothing_is_dead_whatever_its_clock_says(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.001)
    monkeypatch.setattr(lease, "DEAD_AFTER_SECONDS", 0.05)
    write(tmp_path, elsewhere(renewed=time.time() + ahead))
    with lease.held(Output(str(tmp_path)), "second") as dead:
        assert dead.host == "other-host"


def test_a_lease_that_was_seen_dead_is_not_watched_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DEAD_AFTER_SECONDS", 0.0)
    write(tmp_path, elsewhere(renewed=0.0))
    dead = lease.refuse_if_held(Output(str(tmp_path)))
    monkeypatch.setattr(lease, "DEAD_AFTER_SECONDS", float("inf"))
    with lease.held(Output(str(tmp_path)), "second", dead) as before:
        assert before.host == "other-host"


def test_a_lease_that_is_held_is_renewed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.001)
    output = Output(str(tmp_path))
    with lease.held(output, "first"):
        first = lease.read_lease(output)
        while lease.read_lease(output).renewed == first.renewed:
            assert time.time() < first.renewed + 60
        assert lease.read_lease(output).since == first.since


# Lost leases


def test_workers_of_the_holder_may_commit(tmp_path: pathlib.Path) -> None:
    with lease.held(Output(str(tmp_path)), "first"):
        lease.check_held(str(path_of(tmp_path)), "first")


def test_workers_of_a_run_that_lost_its_lease_may_not_commit(tmp_path: pathlib.Path) -> None:
    with (
        lease.held(Output(str(tmp_path)), "second"),
        pytest.raises(LeaseLostError, match=r"first lost the output to run second .*changes noth"),
    ):
        lease.check_held(str(path_of(tmp_path)), "first")


def test_workers_of_a_run_that_has_ended_may_not_commit(tmp_path: pathlib.Path) -> None:
    with pytest.raises(LeaseLostError, match="run first has ended; it changes nothing more there"):
        lease.check_held(str(path_of(tmp_path)), "first")


def test_a_run_that_lost_its_lease_stops_and_leaves_that_of_the_other(
    tmp_path: pathlib.Path,
) -> None:
    call = f"hold_renewing_often({str(tmp_path)!r})"
    with in_a_process(call, stderr=subprocess.PIPE) as process, within_patience(process):
        assert process.stdout.readline() == "held\n"
        # In one step, as a run does that takes over.
        write(tmp_path / "..", elsewhere(time.time()))
        os.replace(path_of(tmp_path / ".."), path_of(tmp_path))
        process.wait(PATIENCE_SECONDS)
        assert process.returncode == 1
        assert process.stderr.read().startswith("failed: run first lost the output to run far on")
    assert json.loads(path_of(tmp_path).read_text())["run_id"] == "far"


def hold_renewing_often(directory: str) -> None:
    lease.RENEW_SECONDS = 0.2
    hold(directory, "first")


# Directories and files as they are found


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run_id": "x"}', '{"unknown": 1}', "\xff"])
def test_a_damaged_lease_is_told_with_what_to_do(tmp_path: pathlib.Path, content: str) -> None:
    path_of(tmp_path).write_text(content, "latin-1")
    for look in (lease.refuse_if_held, lambda output: lease.held(output, "x").__enter__()):
        with pytest.raises(UserError) as info:
            look(Output(str(tmp_path)))
        assert str(info.value).startswith(f"{path_of(tmp_path)}: is damaged (")
        assert "delete it if no run is at work" in str(info.value)


def test_a_directory_that_cannot_be_written_is_a_mistake(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=f"--output {tmp_path}/file/out: not writable: Not a dir"),
        lease.held(Output(str(tmp_path / "file" / "out")), "first"),
    ):
        pass
