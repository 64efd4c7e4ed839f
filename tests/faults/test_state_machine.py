"""Nights in any order with any faults, as hypothesis draws them: readers see one of them, whole."""

from __future__ import annotations

import collections
import contextlib

import hypothesis
import pytest
from hypothesis import stateful, strategies

from tests.helpers import simulated_nights, simulated_store, small_night
from tests.helpers.simulated_nights import Fault, Night, Nights
from tests.helpers.soak import usual_or_soak

# Of a night with nothing to replace, or with much; what is beyond its end does not happen.
REQUESTS, CHANGES = 160, 32

ids = strategies.sampled_from([*(f"/in/{number}" for number in range(1, 6)), small_night.BAD])
versions = strategies.dictionaries(ids, strategies.sampled_from(["1-1", "1-2"])).map(
    lambda drawn: {"/in/0": "1-1"} | drawn  # of errors alone nothing is published
)
flags = strategies.sampled_from([(), (), (), ("--overwrite",), ("--keep_snapshots", "0")]).map(
    lambda drawn: ("--max_gone_rate", "1", *drawn)
)


def faults(kinds: list[str], meanwhile: strategies.SearchStrategy[tuple[Night, ...]]):
    """Up to two requests at which something happens; those that change something more often."""
    places = strategies.one_of(
        strategies.tuples(strategies.integers(1, REQUESTS), strategies.just(False)),
        strategies.tuples(strategies.integers(1, CHANGES), strategies.just(True)),
        strategies.tuples(strategies.integers(1, CHANGES), strategies.just(True)),
    )
    one = strategies.builds(
        lambda kind, place, after, nights: Fault(
            kind, *place, after=after, meanwhile=nights if kind == "sleep" else ()
        ),
        strategies.sampled_from(kinds),
        places,
        strategies.booleans(),
        meanwhile,
    )
    return strategies.sampled_from([1, 1, 1, 2, 0]).flatmap(
        lambda count: strategies.lists(one, min_size=count, max_size=count).map(tuple)
    )


def nights_of(kinds: list[str], meanwhile: strategies.SearchStrategy[tuple[Night, ...]]):
    return strategies.builds(Night, versions, faults(kinds, meanwhile), flags)


PASSING = ["503", "away", "kill"]
awake = nights_of(PASSING, strategies.just(()))
naps = nights_of(["sleep", *PASSING], strategies.tuples(awake))
any_night = nights_of(
    ["sleep", "sleep", *PASSING], strategies.lists(naps, min_size=1, max_size=2).map(tuple)
)

STORES = [simulated_store.s3, simulated_store.google]

happened: collections.Counter[str] = collections.Counter()


class AnyNights(stateful.RuleBasedStateMachine):
    """On one store; the last night is a calm one and has to be exact."""

    @stateful.initialize(which=strategies.sampled_from(STORES))
    def begin(self, which) -> None:
        self.patches = contextlib.ExitStack()
        store = self.patches.enter_context(which())
        self.patches.enter_context(simulated_nights.patched())
        self.nights = Nights(store)

    @stateful.rule(night=any_night)
    def night(self, night: Night) -> None:
        happened[self.nights.have(night).partition(":")[0]] += 1

    def teardown(self) -> None:
        if not hasattr(self, "nights"):
            return
        try:
            last = small_night.evening()
            self.nights.have(Night(last, flags=("--max_gone_rate", "1")))
            self.nights.check_finished(last)
        finally:
            self.patches.close()
            happened.update(self.nights.faults)
            happened["requests"] += self.nights.store.requests


def test_any_nights(record_property: pytest.RecordProperty) -> None:
    happened.clear()
    stateful.run_state_machine_as_test(
        AnyNights,
        settings=hypothesis.settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=usual_or_soak(12, 300),
            stateful_step_count=4,
            phases=[
                hypothesis.Phase.explicit,
                hypothesis.Phase.generate,
            ],  # to shrink takes minutes
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(happened.items()))
    record_property("told", f"nights drawn by hypothesis, on simulated stores: {kinds}")
