"""`--batch_size auto` chooses by what it measures, within the memory that there is."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.commands import Finished
from tests.helpers.images import write_random_images
from tests.helpers.tiny_model import TINY_SIZE
from transforms import engines
from transforms.engines import batch_size
from transforms.engines.batch_size import SIZES, measure_batch_size
from transforms.images.spec import ImageSpec
from transforms.models.source import ModelSource

SPEC = ImageSpec(TINY_SIZE, TINY_SIZE)
IMAGE_BYTES = TINY_SIZE * TINY_SIZE * 3 * 4


class Clock:
    """Stands still but for what somebody adds: other programs on the machine do not matter."""

    seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(batch_size, "time", clock)
    return clock


class CostlyCalls:
    """An engine whose calls cost a fixed time and nothing for each image, up to `room` images."""

    def __init__(self, model: pathlib.Path, clock: Clock, room: int = 10**9):
        self._clock = clock
        self._engine = engines.load(ModelSource("m", path=str(model)))
        self._room = room

    @property
    def model(self) -> Any:
        return self._engine.model

    @property
    def identity(self) -> None:
        return None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if len(images) > self._room:
            raise MemoryError("no room")
        self._clock.seconds += 0.02
        return np.zeros((len(images), 8), np.float32)


def test_where_each_call_costs_the_same_the_largest_batch_is_best(tiny_model, clock):
    size, rates = measure_batch_size(CostlyCalls(tiny_model, clock), SPEC)
    assert size == 256
    assert list(rates) == list(SIZES)


def test_a_size_for_which_there_is_no_memory_is_not_taken(tiny_model, clock):
    assert measure_batch_size(CostlyCalls(tiny_model, clock, room=100), SPEC)[0] == 64
    _, rates = measure_batch_size(CostlyCalls(tiny_model, clock), SPEC, 10 * 40 * IMAGE_BYTES)
    assert list(rates) == [8, 16, 32]
    _, rates = measure_batch_size(CostlyCalls(tiny_model, clock), SPEC, 1)
    assert list(rates) == [1]


def test_a_model_that_fails_on_the_smallest_batch_fails(tiny_model, clock):
    with pytest.raises(MemoryError, match="no room"):
        measure_batch_size(CostlyCalls(tiny_model, clock, room=7), SPEC)


def test_the_command_says_what_it_chose(
    tiny_model: pathlib.Path, tmp_path: pathlib.Path, run_here: Callable[..., Finished]
) -> None:
    write_random_images(tmp_path / "in", 30)
    command = ["--input", tmp_path / "in", "--model", tiny_model, "--output", tmp_path / "out"]
    done = run_here(*command, "--batch_size", "auto")
    assert done.code == 0, done.err
    assert "batch size " in done.err and "8: " in done.err and "/s" in done.err
    assert len(pd.read_parquet(tmp_path / "out")) == 30
