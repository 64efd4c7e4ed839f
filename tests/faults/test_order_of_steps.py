"""What must come before what, so that a power cut or a launcher that slept does no harm.

No test can cut the power. So it is written down which calls make bytes and names durable, in which
order, and after which look at the lease a change is made: each of them is there, and where it was.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Callable, Iterator

import pytest

from tests.helpers import simulated_nights, simulated_store, small_night
from tests.helpers.simulated_nights import Night, Nights
from tests.helpers.simulated_store import Request
from transforms import storage
from transforms.models import builtin
from transforms.models.builtin import efficientnet_lite0
from transforms.storage.commits import PendingFile

Log = list[str]

STAGED = "_staging/part*.parquet"

# From the journal on. What is read before a look is still so after it, if the look finds the lease.
STEPS = (
    """
look, write _publish.json
look, read _snapshot.json, look, write part*.parquet, delete _staging/part*.parquet
write part*.parquet, delete _copies/part*.parquet, write part*.parquet, delete _copies/part*.parquet
read _snapshot.json, look, write _snapshot.json
read _snapshot.json, look, write _previous/*/part*.parquet, delete part*.parquet
write _previous/*/part*.parquet, delete part*.parquet
look, delete _staging
look, delete _copies
look, delete _publish.json
look, look, delete _plan/*.parquet, delete _plan/*.json, delete _plan, delete _staging
read _snapshot.json, look, look, write _run.json, write _SUCCESS
look, delete _lease.json
""".strip()
    .replace("\n", ", ")
    .split(", ")
)

DELETIONS = ["look", "delete part*.parquet", "look", "delete part*.parquet"]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """The calls that change names or make something durable, with what they are about."""
    calls: Log = []

    def logged(name: str) -> None:
        call: Callable[..., object] = getattr(os, name)

        def record(*arguments: int | str) -> object:
            about = arguments[-1]
            path = os.readlink(f"/proc/self/fd/{about}") if isinstance(about, int) else about
            known = re.sub(r"_tmp-[0-9a-f]+-", "_tmp-", os.path.basename(path))
            calls.append(f"{name} {known}")
            return call(*arguments)

        monkeypatch.setattr(os, name, record)

    for name in ("fsync", "link", "rename", "replace"):
        logged(name)
    return calls


def pending(path: pathlib.Path) -> PendingFile:
    file = PendingFile(str(path))
    pathlib.Path(file.local_path).write_text("content")
    return file


def test_a_part_is_on_the_disk_before_its_name_and_its_name_before_the_next_step(
    tmp_path: pathlib.Path, log: Log
) -> None:
    assert pending(tmp_path / "out" / "part").commit()
    assert log == ["fsync _tmp-part.tmp", "link part", "fsync out"]


def test_a_small_file_is_on_the_disk_before_it_replaces_another(
    tmp_path: pathlib.Path, log: Log
) -> None:
    pending(tmp_path / "out" / "_snapshot.json").replace()
    assert log == ["fsync _tmp-_snapshot.json.tmp", "replace _snapshot.json", "fsync out"]


def test_moves_are_on_the_disk_before_the_next_step(tmp_path: pathlib.Path, log: Log) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    target = tmp_path / "out"
    storage.move([(str(tmp_path / name), str(target / name)) for name in ("a", "b")])
    assert log == ["replace a", "replace b", "fsync out"]


def test_the_built_in_model_is_on_the_disk_before_its_name(
    tmp_path: pathlib.Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["saved_model.pb", "variables.data-00000-of-00001", "variables.index"]

    def save(_task: str, _state: object, directory: str) -> None:
        variables = pathlib.Path(directory, "variables")
        variables.mkdir(parents=True)
        for name in names:
            (pathlib.Path(directory) if name == names[0] else variables).joinpath(name).touch()

    monkeypatch.setattr(efficientnet_lite0, "save", save)
    final = builtin.exported("classification", str(tmp_path))
    assert sorted(log[:3]) == [f"fsync {name}" for name in names]
    assert log[3:] == [f"rename {os.path.basename(final)}"]


@pytest.fixture
def nights() -> Iterator[Nights]:
    with simulated_store.google() as store, simulated_nights.patched():
        yield Nights(store)


def steps_of(nights: Nights, night: Night) -> Log:
    """What a night reads and changes; each look is one, however young the last one is."""
    steps: Log = []
    meet = nights.store.before

    def record(request: Request) -> int | None:
        name = re.sub(r"[0-9a-f-]{16,}|[0-9]+-[0-9]{10}|[0-9a-f]{12}", "*", request.name)
        name = name.removeprefix("out/")
        if name == "_lease.json" and not request.changes:
            steps.append("look")
        elif name == "_snapshot.json" and not request.changes:
            steps.append("read _snapshot.json")
        elif request.changes:
            steps.append(f"{'delete' if request.method == 'DELETE' else 'write'} {name}")
        return meet(request)

    nights.store.before = record
    assert nights.have(night) == "well"
    nights.store.before = meet
    return steps


def test_each_change_comes_after_a_look_at_the_lease(nights: Nights) -> None:
    nights.have(Night(small_night.evening()))
    steps = steps_of(nights, Night(small_night.morning()))
    commit, journal = (steps.index(f"write {name}") - 1 for name in (STAGED, "_publish.json"))
    assert steps[commit : commit + 2] == ["look", f"write {STAGED}"]
    assert steps[journal:] == STEPS


def test_each_deletion_comes_after_a_look_at_the_lease(nights: Nights) -> None:
    """Where nothing is kept of what is replaced."""
    nights.have(Night(small_night.evening()))
    steps = steps_of(nights, Night(small_night.morning(), flags=("--keep_snapshots", "0")))
    begin = steps.index("write _snapshot.json") + 1
    assert steps[begin : begin + 6] == ["read _snapshot.json", *DELETIONS, "look"]


def test_a_snapshot_replaces_one_that_was_read_before_a_look_at_the_lease(nights: Nights) -> None:
    """Where parts are only added, nothing but the snapshot is published."""
    steps = steps_of(nights, Night(small_night.evening()))
    at = steps.index("write _snapshot.json")
    assert steps[at - 2 : at] == ["read _snapshot.json", "look"]
