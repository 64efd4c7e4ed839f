"""Nights on a simulated store: any request fails, any launcher dies or sleeps while others work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from tests.helpers import simulated_nights, simulated_store, small_night
from tests.helpers.simulated_nights import Fault, Night, Nights, Versions
from tests.helpers.simulated_store import SimulatedStore, StoredBytes
from tests.helpers.soak import usual_or_soak

Objects = dict[str, StoredBytes]

# Of the requests of a night, before or after they are carried out, so many, evenly spread.
AT_MOST = usual_or_soak(3, 60)

BEFORE, AFTER = small_night.evening(), small_night.morning()
ADDED = BEFORE | {"/in/8": "1-1"}
MORE = ADDED | {"/in/9": "1-1"}
UNLIKE = {"/in/0": "1-1", "/in/5": "1-7", "/in/8": "1-1"}


@dataclasses.dataclass(frozen=True)
class Case:
    """What happens at one request, and what the inputs hold in this night and in the next one."""

    fault: str
    meanwhile: tuple[Night, ...] = ()
    now: Versions = dataclasses.field(default_factory=lambda: AFTER)
    then: Versions = dataclasses.field(default_factory=lambda: AFTER)


KILLED = Night(UNLIKE, (Fault("kill", 22, of_changes=True),))

CASES = {
    "503": Case("503"),
    "away": Case("away"),
    "killed": Case("kill"),
    "asleep while the same is done": Case("sleep", (Night(AFTER),)),
    "asleep while nothing is done": Case("sleep", (Night(BEFORE),)),
    "asleep while something else is done": Case("sleep", (Night(UNLIKE),)),
    "asleep while it is done and undone": Case("sleep", (Night(AFTER), Night(BEFORE))),
    "asleep while another is killed": Case("sleep", (KILLED,)),
    "asleep while more is added": Case("sleep", (Night(MORE),), now=ADDED, then=MORE),
}


@pytest.fixture(scope="module", params=[simulated_store.s3, simulated_store.google])
def store(request: pytest.FixtureRequest) -> Iterator[SimulatedStore]:
    with request.param() as store, simulated_nights.patched():
        yield store


@pytest.fixture(scope="module")
def evening(store: SimulatedStore) -> Objects:
    """The objects before the night."""
    assert Nights(store).have(Night(BEFORE)) == "well"
    return dict(store.objects)


def begun(store: SimulatedStore, evening: Objects) -> Nights:
    store.objects = dict(evening)
    nights = Nights(store)
    nights.allowed = [BEFORE]
    return nights


def spread(count: int, at_most: int) -> list[int]:
    """Numbers from 1 to `count`, evenly spread, at most so many."""
    wanted = min(count, at_most)
    return [1 + (2 * at + 1) * count // (2 * wanted) for at in range(wanted)]


@pytest.mark.parametrize("name", CASES)
def test_each_request_in_turn(
    store: SimulatedStore, evening: Objects, name: str, record_property: pytest.RecordProperty
) -> None:
    case = CASES[name]
    nights = begun(store, evening)
    nights.have(Night(case.now))
    requests = nights.last.requests
    places = [(at, after) for at in range(1, requests + 1) for after in (False, True)]
    wrong, survived = [], 0
    numbers = spread(len(places), AT_MOST)
    for at, after in (places[number - 1] for number in numbers):
        nights = begun(store, evening)
        ended = "?"
        try:
            fault = Fault(case.fault, at, after=after, meanwhile=case.meanwhile)
            ended = nights.have(Night(case.now, (fault,)))
            survived += ended == "well"
            nights.have(Night(case.then))
            nights.check_finished(case.then)
        except AssertionError as error:
            carried_out = "" if after else "not "
            wrong.append(f"request {at}, {carried_out}carried out: {ended}: {str(error)[:300]}")
    assert not wrong, "\n".join(wrong)
    told = f"{store.uri}, simulated, {name}: at {len(numbers)} of {len(places)} places before and "
    told += f"after requests; {survived} nights ended well, the next one finished the others"
    record_property("told", told)
