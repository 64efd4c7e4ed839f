"""Each system call of a night fails in turn, and the process is killed at each: nothing is lost.

What SQLite does with its faulty file systems: a small run changes an output (rows are added,
replaced and taken out, error rows stay), and strace makes its n-th call of a kind fail, for each n.
After each, readers see the evening or the morning, and the same command brings it to its end.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipeline.checks.parts import check_parts
from pipeline.checks.sample import Sample
from pipeline.output.directory import Output
from tests.helpers import small_night
from tests.helpers.commands import PATIENCE_SECONDS, start
from tests.helpers.outputs import committed_ids
from tests.helpers.soak import usual_or_soak
from transforms.dataset import snapshot
from transforms.dataset.snapshot import load_features

# Calls that change something on the disk; strace passes over those that a machine does not have.
CALLS = ("openat", "write", "fsync", "rename", "link", "unlink", "mkdir", "rmdir")
FAULTS = {
    "error=EIO": CALLS,
    "error=ENOSPC": ("openat", "write", "fsync", "rename", "mkdir"),
    "signal=KILL": CALLS,
}

# Of a kind of call and fault: so many in `make test`, evenly spread; each in `make soak`.
AT_MOST = usual_or_soak(4, 10_000)


class Nights:
    """Nights in forked processes, each on a fresh copy of the evening's output."""

    def __init__(self, directory: pathlib.Path):
        self.output = directory / "out"
        self._evening = directory / "evening"
        self._log = directory / "strace.log"
        command = [sys.executable, "-m", "tests.helpers.small_night", self.output]
        self._server = start(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for line in self._server.stdout:
            if line == "ready\n":
                break
        shutil.copytree(self.output, self._evening)

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait(PATIENCE_SECONDS)
        self._server.stdout.close()

    def run(self, fault: str | None = None) -> int:
        """A night with a fault, as strace takes it, or without; its exit status."""
        pid = int(self._say(str(self.output)))
        if fault is None:
            return int(self._say("go"))
        trace = ["strace", "-f", "-qq", "-o", self._log, "-e", f"trace={','.join(CALLS)}"]
        tracer = start(
            [*trace, *(["-e", f"inject={fault}"] if fault else []), "-p", str(pid)],
            stderr=subprocess.PIPE,
        )
        status = pathlib.Path(f"/proc/{pid}/status")
        while "TracerPid:\t0\n" in status.read_text():
            assert tracer.poll() is None, tracer.stderr.read()
        code = int(self._say("go"))
        tracer.communicate(timeout=PATIENCE_SECONDS)
        return code

    def _say(self, line: str) -> str:
        self._server.stdin.write(line + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline()

    def count_calls(self) -> dict[str, int]:
        """How many calls of each kind a night has."""
        self.begin_anew()
        assert self.run("") == 0
        self.check_finished()
        names = re.findall(r"^\d+ +(\w+)\(", self._log.read_text(), re.MULTILINE)
        return {name: names.count(name) for name in CALLS}

    def begin_anew(self) -> None:
        shutil.rmtree(self.output)
        shutil.copytree(self._evening, self.output)

    def check_seen(self) -> None:
        """Readers see one of the two states, and each image once."""
        rows = load_features(str(self.output), ["id", "version"]).to_pylist()
        seen = {row["id"]: row["version"] for row in rows}
        assert len(seen) == len(rows)
        states = [small_night.evening(), small_night.morning()]
        assert seen in [{k: v for k, v in s.items() if k != small_night.BAD} for s in states]

    def check_finished(self) -> None:
        """The morning, for any reader, with nothing left behind; every part is well."""
        output = Output(str(self.output)).refresh()
        assert committed_ids(output) == small_night.morning()
        state = snapshot.read_snapshot(output.directory)
        assert set(state.checksums) == set(output.files)
        assert check_parts(output, output.all_names(), state, Sample(0, 0)).problems == []
        names = {path.name for path in self.output.iterdir()} - set(output.parts)
        assert names <= {"_SUCCESS", "_run.json", "_snapshot.json", "_errors", "_previous"}
        assert not list(self.output.rglob("_tmp-*"))


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    nights = Nights(tmp_path_factory.mktemp("nights"))
    yield nights
    nights.close()


@pytest.fixture(scope="module")
def calls(nights: Nights) -> dict[str, int]:
    """How many there are of each kind."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: faults by the system call cannot be injected")
    return nights.count_calls()


def spread(count: int, at_most: int) -> list[int]:
    """Numbers from 1 to `count`, evenly spread, at most so many."""
    wanted = min(count, at_most)
    return [1 + at * count // wanted for at in range(wanted)] if wanted else []


def try_all(nights: Nights, faults: list[str]) -> int:
    """Tries each fault; how many of them the night itself survived."""
    survived = 0
    for fault in faults:
        nights.begin_anew()
        code = nights.run(fault)
        survived += code == 0
        try:
            nights.check_seen()
            assert nights.run() == 0, "the same command continues"
            nights.check_finished()
        except Exception as error:
            told = nights.output.with_suffix(".told").read_text()
            raise AssertionError(f"after {fault} (exit status {code}): {error}\n{told}") from error
    return survived


@pytest.mark.parametrize(("fault", "kinds"), FAULTS.items(), ids=FAULTS)
def test_each_call_fails_in_turn(
    nights: Nights,
    calls: dict[str, int],
    fault: str,
    kinds: tuple[str, ...],
    record_property: pytest.RecordProperty,
) -> None:
    faults = [
        f"{kind}:{fault}:when={when}" for kind in kinds for when in spread(calls[kind], AT_MOST)
    ]
    survived = try_all(nights, faults)
    some = ", ".join(f"{kind} {calls[kind]}" for kind in kinds)
    told = f"{fault} at {len(faults)} system calls of a night that has {some}: "
    told += f"{survived} nights went on to their end, the same command finished the others"
    record_property("told", told)
