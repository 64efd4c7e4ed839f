"""`pipeline.status`: what is told of runs at work, killed, publishing and over."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator

import pandas as pd
import pytest
from apache_beam.io.filesystems import FileSystems

from pipeline import status
from pipeline.output import lease, state
from pipeline.output.announcement import announced
from pipeline.output.directory import Output
from pipeline.output.observer import Observer
from tests.helpers.commands import (
    PATIENCE_SECONDS,
    Finished,
    run,
    run_command,
    run_python,
    start,
    within_patience,
)
from tests.helpers.images import write_random_images
from tests.helpers.jobs import waits
from tests.helpers.memory_store import ObjectStore

Run = Callable[..., Finished]

STATUS = [sys.executable, "-m", "pipeline.status"]


def told(capfd: pytest.CaptureFixture[str], output: pathlib.Path, code: int = 0) -> dict:
    """What `--json` prints."""
    capfd.readouterr()
    assert status.main([str(output), "--json"]) == code
    return json.loads(capfd.readouterr().out)


def lines(capfd: pytest.CaptureFixture[str], output: pathlib.Path, code: int = 0) -> dict:
    """The text for people, by the word in front."""
    capfd.readouterr()
    assert status.main([str(output)]) == code
    text = capfd.readouterr().out
    return {line[:12].strip(): line[13:] for line in text.splitlines()}


def listing(directory: pathlib.Path) -> dict[str, tuple[int, int]]:
    files = {str(path): path.stat() for path in [directory, *directory.rglob("*")]}
    return {path: (found.st_size, found.st_mtime_ns) for path, found in files.items()}


@pytest.fixture
def small(tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run) -> pathlib.Path:
    """A finished output of 30 rows and two error rows in about four parts."""
    write_random_images(tmp_path / "in", 30)
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    (tmp_path / "in" / "text.png").write_bytes(b"no image")
    command = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model]
    assert run_here(*command, "--rows_per_file", 8).code == 0
    return tmp_path / "out"


@contextlib.contextmanager
def halted_run(tmp_path: pathlib.Path, model: pathlib.Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real run of 6,000 images and an error, halted in the middle of its work."""
    write_random_images(tmp_path / "in", 6000, suffix=".jpg")
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    command = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", model]
    command += ["--engine", "openvino", "--rows_per_file", 100]
    process = start(
        [sys.executable, "-m", "pipeline.run", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + PATIENCE_SECONDS
    try:
        while not list((tmp_path / "out").glob("part-*.parquet")):
            assert time.monotonic() < until
            assert not waits(process, 0.02), "it ended without a part"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)


# Runs that are over


def test_a_finished_run_is_told_with_its_counts(small: pathlib.Path, capfd) -> None:
    before = listing(small)
    found = told(capfd, small)
    assert (found["output"], found["state"], found["succeeded"]) == (str(small), "finished", True)
    assert (found["total"], found["done"], found["done_before"]) == (32, 32, 0)
    assert (found["rows"], found["errors"]) == (30, 2)
    assert found["errors_by_type"] == {"EmptyImageError": 1, "NotAnImageError": 1}
    assert found["parts"] == len(list(small.glob("part-*")))
    files = [path for path in small.rglob("*") if path.is_file()]
    assert found["files"] == len(files)
    assert found["disk_bytes"] == sum(path.stat().st_size for path in files)
    assert found["lease"] is found["seconds_left"] is found["continue_with"] is None
    assert found["unreadable"] == []
    run = json.loads((small / "_run.json").read_text())
    assert [found[name] for name in ("run_id", "started", "ended", "command")] == [
        run[name] for name in ("run_id", "started", "ended", "command")
    ]
    assert found["images_per_second"] == pytest.approx(32 / run["seconds"]["pipeline"], rel=0.01)
    text = lines(capfd, small)
    assert text["state"] == "finished"
    assert text["images"] == "32 of 32 done (100.0%), 0 before this run"
    assert "30 rows, 2 errors: 1 " in text["contents"]
    assert text["last commit"].startswith(found["last_commit"])
    assert listing(small) == before


def test_too_many_errors_are_told(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run, capfd
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    arguments = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model]
    assert run_here(*arguments).code == 1
    assert lines(capfd, tmp_path / "out")["state"].endswith(
        "more errors than --max_error_rate allows: nothing was published"
    )
    assert told(capfd, tmp_path / "out")["succeeded"] is False


def test_watch_of_a_run_that_is_over_tells_once(
    small: pathlib.Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_LOOKS_FOR_ANOTHER", 1)  # for a run that begins now
    assert status.main(["--watch", str(small)]) == 0
    assert capfd.readouterr().out.count("finished") == 1


def test_a_second_run_counts_what_was_done_before(
    small: pathlib.Path, tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run, capfd
) -> None:
    for path in write_random_images(tmp_path / "new", 5):
        shutil.move(path, tmp_path / "in" / f"new-{path.name}")
    command = ["--input", tmp_path / "in", "--output", small, "--model", tiny_model]
    assert run_here(*command, "--rows_per_file", 8).code == 0
    found = told(capfd, small)
    assert (found["total"], found["done"], found["done_before"]) == (37, 37, 32)


# Runs at work and killed


def test_a_run_is_watched_at_work_and_after_kill_9(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run, capfd
) -> None:
    out = tmp_path / "out"
    with halted_run(tmp_path, tiny_model) as process:
        before = listing(out)
        found = told(capfd, out)
        rows = len(pd.read_parquet(out))
        assert found["state"] == "running"
        assert found["total"] == 6001
        assert rows <= found["done"] == found["rows"] + found["errors"] < 6001
        assert found["run_errors_by_type"] == found["errors_by_type"]
        assert found["lease"]["live"] is True
        assert (found["lease"]["pid"], found["lease"]["run_id"]) == (process.pid, found["run_id"])
        assert found["images_per_second"] > 0
        left = (found["total"] - found["done"]) / found["images_per_second"]
        assert found["seconds_left"] == pytest.approx(left, abs=0.1)
        text = lines(capfd, out)
        assert (text["state"], text["lease"][:10]) == ("running", "live: run ")
        assert re.fullmatch(r"[\d,.]+ images/s, about [\d,]+ (s|min|h).* left", text["rate"])
        assert listing(out) == before

        process.kill()
        process.wait(PATIENCE_SECONDS)
        killed = told(capfd, out)
        assert killed["state"] == "interrupted"
        assert killed["done"] >= found["done"]
        assert killed["lease"]["live"] is False
        assert killed["seconds_left"] is None
        text = lines(capfd, out)
        assert text["state"] == "interrupted: run the same command again to continue"
        assert text["lease"].startswith("dead: run ")
        assert text[""] == killed["continue_with"]
        assert watching(out, "--json").communicate(timeout=PATIENCE_SECONDS) == (
            json.dumps(killed) + "\n",
            "",
        )

    done = run_here(*shlex.split(killed["continue_with"])[3:])
    assert done.code == 0, done.err
    finished = told(capfd, out)
    assert (finished["state"], finished["done"]) == ("finished", 6001)
    assert finished["done_before"] == killed["done"]


def watching(output: pathlib.Path, *flags: str, **popen: object) -> subprocess.Popen[str]:
    """`pipeline.status --watch` in a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
    command = [*STATUS, str(output), "--watch", "0.1", *flags]
    return start(command, **pipes)


def test_watch_goes_on_until_the_run_ends(tmp_path: pathlib.Path, tiny_model: pathlib.Path) -> None:
    leader, follower = pty.openpty()
    with (
        halted_run(tmp_path, tiny_model) as process,
        watching(tmp_path / "out", "--json") as machine,
        watching(tmp_path / "out", stdout=follower) as terminal,
        watching(tmp_path / "out") as person,
        within_patience(machine, terminal, person, process),
    ):
        os.close(follower)
        first = json.loads(machine.stdout.readline())
        assert first["state"] == "running"
        shown = os.read(leader, 65536)
        assert shown.startswith(b"output ")

        for line in person.stdout:
            if line == "\n":  # a block is complete
                break
        person.send_signal(signal.SIGINT)
        rest, error = person.communicate(timeout=PATIENCE_SECONDS)
        assert (person.returncode, error) == (130, "")
        assert "\x1b" not in rest

        process.send_signal(signal.SIGCONT)
        out, error = machine.communicate(timeout=PATIENCE_SECONDS)
        assert (machine.returncode, error) == (0, "")
        seen = [first, *map(json.loads, out.splitlines())]
        assert {one["state"] for one in seen[:-1]} == {"running"}
        assert seen[-1]["state"] == "finished"
        done = [one["done"] for one in seen if one["done"] is not None]
        assert done == sorted(done)
        assert done[-1] == 6001
        with contextlib.suppress(OSError):  # the other end is closed
            while chunk := os.read(leader, 65536):
                shown += chunk
        assert terminal.wait(PATIENCE_SECONDS) == 0
        blocks = re.split(r"\x1b\[\d+F\x1b\[J", shown.decode())
        assert len(blocks) > 1
        assert all(block.startswith("output ") for block in blocks)
        assert "6,001 of 6,001 done" in blocks[-1]
        assert max(len(line) for line in blocks[0].splitlines()) < 80
    os.close(leader)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_in_a_log_watch_tells_what_changes_and_else_a_minute(
    flags: list[str], small: pathlib.Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now == 200:
            held.close()

    monkeypatch.setattr(status, "time", types.SimpleNamespace(sleep=sleep, monotonic=lambda: now))
    with contextlib.ExitStack() as held:
        held.enter_context(lease.held(Output(str(small)), "planning"))
        assert status.main([str(small), "--watch", "2", *flags]) == 0
    out = capfd.readouterr().out
    states = re.findall(r'"state": "(\w+)|^state +(\w+)', out, re.MULTILINE)
    assert ["".join(state) for state in states] == ["running"] * 4 + ["finished"]
    assert now == 200


def test_watch_waits_for_a_run_that_is_slow_to_begin(
    small: pathlib.Path, tmp_path: pathlib.Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, now = tmp_path / "later", 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now == 100:
            shutil.copytree(small, out)
        if now == 200:
            held.enter_context(lease.held(Output(str(out)), "planning"))
        if now == 210:
            held.close()

    monkeypatch.setattr(status, "time", types.SimpleNamespace(sleep=sleep, monotonic=lambda: now))
    with contextlib.ExitStack() as held:
        held.enter_context(announced(str(out)))
        assert status.main([str(out), "--watch", "2", "--json"]) == 0
    told, error = capfd.readouterr()
    states = [json.loads(line)["state"] for line in told.splitlines()]
    assert states == ["finished", "finished", "running", "finished"]
    assert error == f"{out}: a run has begun; it lists its inputs and loads its model\n"


def test_watch_waits_for_a_run_to_begin(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run
) -> None:
    out = tmp_path / "out"
    write_random_images(tmp_path / "in", 20)
    with watching(out, "--json") as early:
        assert "for a run to begin there" in early.stderr.readline()
        command = ["--input", tmp_path / "in", "--output", out, "--model", tiny_model]
        assert run_here(*command).code == 0
        told, _ = early.communicate(timeout=60)
    assert early.returncode == 0
    assert json.loads(told.splitlines()[-1])["state"] == "finished"


def test_watch_of_an_old_output_sees_a_run_that_begins_and_ends(
    small: pathlib.Path, tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run
) -> None:
    with watching(small, "--json", "--watch", "2") as early:
        assert json.loads(early.stdout.readline())["state"] == "finished"
        command = ["--input", tmp_path / "in", "--output", small, "--model", tiny_model]
        assert run_here(*command, "--rows_per_file", 8).code == 0
        told, _ = early.communicate(timeout=PATIENCE_SECONDS)
    assert early.returncode == 0
    last = json.loads(told.splitlines()[-1])
    report = json.loads((small / "_run.json").read_text())
    assert (last["state"], last["run_id"]) == ("finished", report["run_id"])


@pytest.mark.parametrize("place", ["before_journal", "after_journal", "after_moves"])
def test_a_sync_is_told_while_it_replaces(
    small: pathlib.Path,
    tmp_path: pathlib.Path,
    tiny_model: pathlib.Path,
    run_here: Run,
    place: str,
    capfd,
) -> None:
    for number in range(3):
        (tmp_path / "in" / "000" / f"{number:06d}.png").write_bytes(b"changed")
    for path in write_random_images(tmp_path / "new", 5):
        shutil.move(path, tmp_path / "in" / f"new-{path.name}")
    command = ["--input", tmp_path / "in", "--output", small, "--model", tiny_model]
    command += ["--rows_per_file", 8, "--mode", "sync"]
    killed = run_command(*command, env=os.environ | {"BEAM_IMAGE_FEATURES_KILL_AT": place})
    assert killed.code == -9, killed.err
    found = told(capfd, small)
    assert found["state"] == "interrupted"
    assert (found["total"], found["done"], found["done_before"]) == (37, 37, 29)
    assert found["run_errors_by_type"] == {"NotAnImageError": 3}
    if place == "before_journal":
        assert (found["rows"], found["errors"]) == (30, 2)
        assert found["images_per_second"] > 0
    with lease.held(Output(str(small)), found["run_id"]):
        at_work = told(capfd, small)
        assert at_work["state"] == ("running" if place == "before_journal" else "publishing")
        assert (at_work["total"], at_work["done"]) == (37, 37)
    assert "--mode sync" in found["continue_with"]
    assert run_here(*command).code == 0
    finished = told(capfd, small)
    assert (finished["state"], finished["rows"], finished["errors"]) == ("finished", 32, 5)


def test_a_run_that_plans_is_told(small: pathlib.Path, capfd) -> None:
    with lease.held(Output(str(small)), "planning"):
        found = told(capfd, small)
        assert (found["state"], found["total"], found["rows"]) == ("running", None, 30)
        assert lines(capfd, small)["state"] == "running: planning, finishing or compacting"
    with lease.held(Output(str(small / "new")), "planning"):
        assert told(capfd, small / "new")["state"] == "running"


# Files that are damaged, vanish or lie elsewhere


@pytest.mark.parametrize("damaged", ["part", "_errors", "_run.json", "_snapshot.json"])
def test_a_damaged_file_is_named_and_the_rest_is_told(
    small: pathlib.Path, damaged: str, capfd
) -> None:
    path = sorted(small.rglob("*"))[-1] if damaged == "part" else small / damaged
    path = next(iter(path.iterdir())) if path.is_dir() else path
    path.write_bytes(path.read_bytes()[:50])
    text = lines(capfd, small, code=1)
    assert text["unreadable"].startswith(str(path))
    assert text["unreadable"].count(str(path)) == 1
    found = told(capfd, small, code=1)
    assert found["unreadable"] == [text["unreadable"]]
    assert found["parts"] == len(list(small.glob("part-*"))) - (damaged == "part")


def test_a_damaged_lease_is_named(small: pathlib.Path, capfd) -> None:
    (small / "_lease.json").write_text("{")
    text = lines(capfd, small, code=1)
    assert text["unreadable"].startswith(f"{small}/_lease.json: is damaged")
    assert text["images"].startswith("32 of 32")


def test_files_that_vanish_while_it_looks_are_left_out(small: pathlib.Path) -> None:
    """As a run does that publishes: parts and error files come and go all the time."""
    paths = [path for path in small.rglob("*.parquet") if path.is_file()]
    over = threading.Event()

    def move() -> None:
        while not over.is_set():
            for path in paths:
                path.rename(path.with_name("_tmp-away"))
                path.with_name("_tmp-away").rename(path)

    moving = threading.Thread(target=move)
    moving.start()
    try:
        for _ in range(100):
            found = state.tell(Observer(Output(str(small))).look())
            assert found.unreadable == []
            assert found.state == "finished"
            assert found.rows <= 30
    finally:
        over.set()
        moving.join(PATIENCE_SECONDS)


def test_an_object_store_is_told_alike(small: pathlib.Path, monkeypatch, capfd) -> None:
    here = told(capfd, small)
    monkeypatch.setattr(ObjectStore, "objects", {})
    for path in small.rglob("*"):
        if path.is_file():
            with FileSystems.create(f"testfs://bucket/out/{path.relative_to(small)}") as file:
                file.write(path.read_bytes())
    there = told(capfd, "testfs://bucket/out")
    differs = {name for name in here if here[name] != there[name]}
    assert differs <= {"output", "last_commit"}
    assert there["last_commit"] >= here["last_commit"]


# Mistakes


def test_a_directory_without_an_output_is_a_mistake(
    tmp_path: pathlib.Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_BEGIN_SECONDS", -1.0)  # for which --watch waits
    for directory in (tmp_path, tmp_path / "new"):
        for flags in ([], ["--json"], ["--watch"], ["--watch", "--json"]):
            assert status.main([*flags, str(directory)]) == 2
            out, error = capfd.readouterr()
            assert out == ""
            assert error == f"error: {directory}: holds no output of this program\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["--watch"], ["--watch", "0", "x"], ["--watch=inf", "x"]])
def test_a_mistake_in_the_command_is_one_line(words: list[str], capfd) -> None:
    assert status.main(words) == 2
    assert re.fullmatch(r"error: .+\n", capfd.readouterr().err)


def test_a_reader_that_has_seen_enough_is_no_error(small: pathlib.Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run([*STATUS, small], stdout=writer)
    os.close(writer)
    assert (done.code, done.err) == (0, "")


def test_tensorflow_is_not_loaded() -> None:
    code = "import sys, pipeline.status; sys.exit('tensorflow' in sys.modules)"
    assert run_python(code).code == 0
