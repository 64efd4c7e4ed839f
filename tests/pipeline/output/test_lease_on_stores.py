"""The lease where it lies in an object store, and the runs are on different machines."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator

import pytest

from pipeline.output import lease
from pipeline.output.directory import Output
from tests.helpers import object_stores
from tests.helpers.commands import run_python
from tests.helpers.leases import elsewhere, race
from tests.helpers.object_stores import Store
from transforms.errors import UserError
from transforms.storage.conditional_writes import write_if_unchanged


@pytest.fixture(scope="module", params=[object_stores.gcs, object_stores.s3])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with request.param() as store:
        yield store


def test_of_runs_that_start_at_once_exactly_one_gets_the_lease(store: Store) -> None:
    """First nobody holds it, then a run that is dead."""
    done = run_python(f"from {__name__} import *; race_on({store})")
    assert done.code == 0, done.err
    rounds = [sorted(line.split()) for line in done.out.splitlines()]
    assert rounds == [["held", "refused", "refused", "refused"]] * 2
    assert lease.read_lease(Output(f"{store.uri}/raced")) is None


def race_on(store: Store) -> None:
    object_stores.connect(store)
    race(f"{store.uri}/raced", runners=4, rounds=1)
    lease.DEAD_AFTER_SECONDS = 0.05
    dead = json.dumps(dataclasses.asdict(elsewhere(renewed=0)))
    assert write_if_unchanged(f"{store.uri}/raced/_lease.json", dead, None)
    race(f"{store.uri}/raced", runners=4, rounds=1)


def test_a_lease_is_renewed_while_it_is_held_and_gone_afterwards(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.001)
    output = Output(f"{store.uri}/renewed")
    with lease.held(output, "first"):
        first = lease.read_lease(output)
        while lease.read_lease(output).renewed == first.renewed:
            assert time.time() < first.renewed + 60
        lease.check_held(output.path("_lease.json"), "first")
        with pytest.raises(UserError, match=r"run first on .* is at work there"):
            lease.refuse_if_held(output)
    assert lease.read_lease(output) is None


def test_a_dead_run_is_taken_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "DEAD_AFTER_SECONDS", 0.05)
    output = Output(f"{store.uri}/dead")
    dead = elsewhere(renewed=time.time())
    write_if_unchanged(output.path("_lease.json"), json.dumps(dataclasses.asdict(dead)), None)
    with lease.held(output, "second") as before:
        assert before == dead
        assert lease.read_lease(output).run_id == "second"
        with pytest.raises(lease.LeaseLostError, match="run far lost the output to run second"):
            lease.check_held(output.path("_lease.json"), "far")


def test_a_bucket_that_is_not_there_is_a_mistake(store: Store) -> None:
    output = Output(f"{store.uri}-that-is-not-there/out")
    with pytest.raises(UserError, match="bucket-that-is-not-there"), lease.held(output, "first"):
        pass
