"""Nights on a simulated store in which requests fail, processes die and launchers sleep.

With each change of the store it is looked whether a reader would still see what some night has
made, whole: at any moment, not only between nights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest

from pipeline.checks.parts import check_parts
from pipeline.checks.sample import Sample
from pipeline.output import directory as output_directory
from pipeline.output import holder, lease, publish
from pipeline.output.directory import Output
from tests.helpers import small_night
from tests.helpers.outputs import committed_ids
from tests.helpers.simulated_store import Request, SimulatedStore
from transforms.dataset import snapshot
from transforms.storage import changes

DIRECTORY = "out"
REMAINING = {"_SUCCESS", "_run.json", "_snapshot.json", "_errors", "_previous"}

Versions = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens at one request of a night.

    Attributes:
      kind: "503", of this request; "away", of each from here on; "kill" of the process, or "sleep"
        of it, while other nights take over.
      at: the number of the request, from 1.
      of_changes: whether only those requests count that are to change something.
      after: whether the request is carried out before.
      meanwhile: the nights of others, for a sleep.
    """

    kind: str
    at: int
    of_changes: bool = False
    after: bool = False
    meanwhile: tuple[Night, ...] = ()


@dataclasses.dataclass(frozen=True)
class Night:
    """A run: what its inputs hold, what happens at its requests, and flags."""

    versions: Versions
    faults: tuple[Fault, ...] = ()
    flags: tuple[str, ...] = ()


class Killed(BaseException):
    """The process is gone: nothing of the program handles this."""


@dataclasses.dataclass
class _AtWork:
    night: Night
    requests: int = 0
    changes: int = 0
    away: bool = False
    killed: bool = False


class Nights:
    """An output on a simulated store, and the nights at work on it.

    Attributes:
      store: the store.
      allowed: the states that a reader may see now.
      faults: how many have happened, by kind.
    """

    def __init__(self, store: SimulatedStore):
        self.store = store
        self.output = f"{store.uri}/{DIRECTORY}"
        self.allowed: list[Versions] = [{}]
        self.faults: dict[str, int] = {}
        self._at_work: list[_AtWork] = []
        self._holder: _AtWork | None = None  # who has taken the lease last
        store.before, store.after = self._before, self._after

    def have(self, night: Night) -> str:
        """A night; how it ended: "well", "killed", or what was wrong."""
        self._at_work.append(_AtWork(night))
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                code = small_night.run(self.output, night.versions, *night.flags)
            ended = "well" if code == 0 else "unpublished"
        except Killed:
            ended = "killed"
        except AssertionError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a fault has made of it
            ended = f"{type(error).__name__}: {error}"
        finally:
            self.last = self._at_work.pop()
        if ended == "well" and self._holder is self.last:  # else others were at work since
            self.allowed = [night.versions]
        self.check_seen()
        assert ended == "well" or night.faults, f"a night without faults: {ended}"
        return ended

    def check_seen(self) -> None:
        """A reader who goes by the snapshot sees an allowed state, of whole files."""
        found = self.store.objects.get(f"{DIRECTORY}/_snapshot.json")
        if found is None:
            assert {} in self.allowed
            return
        objects = {}
        for name, checksum in json.loads(found.data)["checksums"].items():
            stored = self.store.objects.get(f"{DIRECTORY}/{name}")
            assert stored is not None, f"{name}: the snapshot names it, and it is gone"
            known = stored.etag if self.store.uri.startswith("s3") else stored.crc32c
            assert known == checksum, f"{name}: is not what the snapshot names"
            objects[name] = stored.data
        seen: Versions = {}
        for data in objects.values():
            rows = _versions(data)
            assert not seen.keys() & rows.keys(), "an id is there twice"
            seen |= rows
        assert seen in self.allowed, f"seen: {seen}; allowed: {self.allowed}"

    def check_finished(self, versions: Versions) -> None:
        """The state of these inputs, for any reader, with nothing left behind."""
        output = Output(self.output).refresh()
        assert committed_ids(output) == versions
        state = snapshot.read_snapshot(output.directory)
        assert set(state.checksums) == set(output.files)
        assert check_parts(output, output.all_names(), state, Sample(0, 0)).problems == []
        names = {name.split("/")[1] for name in self.store.objects} - set(output.parts)
        assert names <= REMAINING

    def _before(self, request: Request) -> int | None:
        if not self._at_work:
            return None
        now = self._at_work[-1]
        now.requests += 1
        now.changes += request.changes
        return self._meet(now, request, after=False)

    def _after(self, request: Request) -> int | None:
        if self._at_work and request.name == f"{DIRECTORY}/_lease.json":
            lease_now = self.store.objects.get(request.name)
            if request.changes and lease_now and lease_now.generation == self.store.writes:
                self._holder = self._at_work[-1]
                self.allowed.append(self._holder.night.versions)
        if request.changes:
            self.check_seen()
        return self._meet(self._at_work[-1], request, after=True) if self._at_work else None

    def _meet(self, now: _AtWork, request: Request, after: bool) -> int | None:
        if now.killed:
            raise Killed
        if now.away:
            return 503
        for fault in now.night.faults:
            at = now.changes if fault.of_changes else now.requests
            if fault.after != after or fault.at != at or (fault.of_changes and not request.changes):
                continue
            self.faults[fault.kind] = self.faults.get(fault.kind, 0) + 1
            if fault.kind == "kill":
                now.killed = True
                raise Killed
            if fault.kind == "sleep":
                for night in fault.meanwhile:
                    self.have(night)
                continue
            now.away = fault.kind == "away"
            return 503
        return None


@functools.lru_cache(maxsize=1000)
def _versions(data: bytes) -> Versions:
    table = pq.read_table(io.BytesIO(data), columns=["id", "version"]).to_pylist()
    return {row["id"]: row["version"] for row in table}


@contextlib.contextmanager
def patched() -> Iterator[None]:
    """Nights are had in this process: another's lease is dead at once, and one thread does all."""
    with pytest.MonkeyPatch.context() as patch:
        small_night.make_up(patch.setattr)
        for room in (holder, lease):
            patch.setattr(room, "this_machine", str)
        patch.setattr(lease, "DEAD_AFTER_SECONDS", 0)
        patch.setattr(lease, "RENEW_SECONDS", 10**6)
        patch.setattr(publish, "_LOOK_SECONDS", 0)
        patch.setattr(publish, "_COPY_THREADS", 1)
        patch.setattr(changes, "_DELETE_THREADS", 1)
        patch.setattr(snapshot, "_CHECKSUM_THREADS", 1)
        patch.setattr(output_directory, "_REMOTE_READS", 1)
        yield
