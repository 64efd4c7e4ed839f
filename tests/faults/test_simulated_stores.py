"""Nights on a simulated store: any request fails, any launcher dies or sleeps while others work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers import simulated_nights, simulated_store, small_night
from tests.helpers.simulated_nights import Fault, Night, Nights, Versions
from tests.helpers.simulated_store import SimulatedStore, StoredBytes
from tests.helpers.soak import usual_or_soak

Objects = dict[str, StoredBytes]

# Of the requests of a night so many, evenly spread; all in `make soak`.
AT_MOST = usual_or_soak(8, 10_000)

BEFORE, AFTER = small_night.evening(), small_night.morning()
UNLIKE = {"/in/0": "1-1", "/in/5": "1-7", "/in/8": "1-1"}

KINDS = {
    "503": ("503", ()),
    "away": ("away", ()),
    "killed": ("kill", ()),
    "asleep while the same is done": ("sleep", (Night(AFTER),)),
    "asleep while nothing is done": ("sleep", (Night(BEFORE),)),
    "asleep while something else is done": ("sleep", (Night(UNLIKE),)),
    "asleep while it is done and undone": ("sleep", (Night(AFTER), Night(BEFORE))),
    "asleep while another is killed": (
        "sleep",
        (Night(UNLIKE, (Fault("kill", 22, of_changes=True),)),),
    ),
}


@pytest.fixture(scope="module", params=[simulated_store.s3, simulated_store.google])
def store(request: pytest.FixtureRequest) -> Iterator[SimulatedStore]:
    with request.param() as store, simulated_nights.patched():
        yield store


@pytest.fixture(scope="module")
def evening(store: SimulatedStore) -> tuple[Objects, int]:
    """The objects before the night, and how many requests a night has."""
    nights = Nights(store)
    assert nights.have(Night(BEFORE)) == "well"
    objects = dict(store.objects)
    assert nights.have(Night(AFTER)) == "well"
    return objects, nights.last.requests


def spread(count: int, at_most: int) -> list[int]:
    """Numbers from 1 to `count`, evenly spread, at most so many."""
    wanted = min(count, at_most)
    return [1 + at * count // wanted for at in range(wanted)]


@pytest.mark.parametrize("after", [False, True], ids=["not carried out", "carried out"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_request_in_turn(
    store: SimulatedStore,
    evening: tuple[Objects, int],
    kind: str,
    after: bool,
    record_property: pytest.RecordProperty,
) -> None:
    objects, requests = evening
    fault, meanwhile = KINDS[kind]
    wrong = []
    survived = tried = 0
    for at in spread(requests, AT_MOST):
        store.objects = dict(objects)
        nights = Nights(store)
        nights.allowed = [BEFORE]
        ended = "?"
        try:
            ended = nights.have(Night(AFTER, (Fault(fault, at, after=after, meanwhile=meanwhile),)))
            survived += ended == "well"
            assert nights.have(Night(AFTER)) == "well", "the same command continues"
            nights.check_finished(AFTER)
        except AssertionError as error:
            wrong.append(f"{at}: {ended}: {str(error)[:300]}")
        tried += 1
    assert not wrong, "\n".join(wrong)
    told = f"{store.uri} {kind}, {'' if after else 'not '}carried out: {tried} of {requests} "
    told += f"requests; {survived} nights went on to their end, the next one finished the others"
    record_property("told", told)
