"""`--batch_size auto` chooses by what it measures, within the memory that there is."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.commands import Finished
from tests.helpers.images import write_random_images
from tests.helpers.tiny_model import TINY_SIZE
from transforms import engines
from transforms.engines.batch_size import SIZES, measure_batch_size
from transforms.images.spec import ImageSpec
from transforms.models.source import ModelSource

SPEC = ImageSpec(TINY_SIZE, TINY_SIZE)
IMAGE_BYTES = TINY_SIZE * TINY_SIZE * 3 * 4


class CostlyCalls:
    """An engine whose calls cost a fixed time and nothing for each image, up to `room` images."""

    def __init__(self, model: pathlib.Path, room: int = 10**9):
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
        until = time.perf_counter() + 0.02
        while time.perf_counter() < until:
            pass
        return np.zeros((len(images), 8), np.float32)


def test_where_each_call_costs_the_same_the_largest_batch_is_best(tiny_model):
    size, rates = measure_batch_size(CostlyCalls(tiny_model), SPEC)
    assert size == 256
    assert list(rates) == list(SIZES)


def test_a_size_for_which_there_is_no_memory_is_not_taken(tiny_model):
    assert measure_batch_size(CostlyCalls(tiny_model, room=100), SPEC)[0] == 64
    _, rates = measure_batch_size(CostlyCalls(tiny_model), SPEC, 10 * 40 * IMAGE_BYTES)
    assert list(rates) == [8, 16, 32]
    _, rates = measure_batch_size(CostlyCalls(tiny_model), SPEC, 1)
    assert list(rates) == [1]


def test_a_model_that_fails_on_the_smallest_batch_fails(tiny_model):
    with pytest.raises(MemoryError, match="no room"):
        measure_batch_size(CostlyCalls(tiny_model, room=7), SPEC)


def test_the_command_says_what_it_chose(
    tiny_model: pathlib.Path, tmp_path: pathlib.Path, run_here: Callable[..., Finished]
) -> None:
    write_random_images(tmp_path / "in", 30)
    command = ["--input", tmp_path / "in", "--model", tiny_model, "--output", tmp_path / "out"]
    done = run_here(*command, "--batch_size", "auto")
    assert done.code == 0, done.err
    assert "batch size " in done.err and "8: " in done.err and "/s" in done.err
    assert len(pd.read_parquet(tmp_path / "out")) == 30
