"""Room in bytes: never more than there is, in turn, and nobody waits for ever."""

from __future__ import annotations

import concurrent.futures
import threading

import pytest

from tests.helpers.commands import PATIENCE_SECONDS
from transforms.images import budget
from transforms.images.budget import ByteBudget


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        yield threads


def wait_until_waiting(room: ByteBudget, count: int) -> None:
    while len(room._waiting) < count:
        threading.Event().wait(0.001)


def test_what_is_larger_than_the_budget_gets_all_of_it(pool):
    room = ByteBudget(100)
    assert room.acquire(1000)
    assert not room.acquire(1, blocking=False)
    small = pool.submit(room.acquire, 1)
    wait_until_waiting(room, 1)
    room.release(1000)
    assert small.result(PATIENCE_SECONDS)
    assert not room.acquire(1000, blocking=False)


def test_a_large_one_is_not_overtaken_for_ever_by_small_ones(pool):
    room = ByteBudget(100)
    room.acquire(60)
    large = pool.submit(room.acquire, 90)
    wait_until_waiting(room, 1)
    assert not room.acquire(10, blocking=False)  # there is room, but it is not its turn
    small = pool.submit(room.acquire, 10)
    wait_until_waiting(room, 2)
    room.release(60)
    assert large.result(PATIENCE_SECONDS)
    assert small.result(PATIENCE_SECONDS)


def test_what_turns_out_larger_takes_more(pool):
    room = ByteBudget(100)
    room.acquire(10)
    room.release(10 - 95)
    assert not room.acquire(10, blocking=False)
    room.release(95)
    assert room.acquire(10, blocking=False)


def test_threads_that_take_and_give_stay_within_it(pool):
    room, lock, seen = ByteBudget(100), threading.Lock(), []
    held = 0

    def work(size: int) -> None:
        nonlocal held
        for _ in range(100):
            room.acquire(size)
            with lock:
                held += size
                seen.append(held)
            with lock:
                held -= size
            room.release(size)

    list(pool.map(work, (10, 20, 30, 40, 50, 60, 70, 100), timeout=PATIENCE_SECONDS))
    assert len(seen) == 800
    assert max(seen) <= 100


def test_what_a_failed_bundle_holds_is_found(pool, monkeypatch):
    """A generator in a circle of references, as in a traceback, releases when it is collected."""
    monkeypatch.setattr(budget, "_LOST_SECONDS", 0.01)
    room = ByteBudget(100)

    def bundle():
        room.acquire(100)
        try:
            yield
        finally:
            room.release(100)

    lost = {"bundle": bundle()}
    next(lost["bundle"])
    lost["itself"] = lost
    del lost
    assert pool.submit(room.acquire, 100).result(PATIENCE_SECONDS)
