"""What the tests share: real photos, a small real model, and the command line in this process."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

from examples.photos import sample_photos
from pipeline import run
from tests.helpers.commands import Finished
from tests.helpers.tiny_model import save_tiny_model

pytest_plugins = ["tests.helpers.peaks", "tests.helpers.processes", "tests.helpers.told"]


@pytest.fixture(scope="session")
def photos() -> list[pathlib.Path]:
    """The sample photos of scikit-image and scikit-learn."""
    return sample_photos()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A SavedModel with random weights: float32 [B, 16, 16, 3] to [B, 8]; fast."""
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def run_here(capfd: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Runs the command line in this process, which has TensorFlow loaded already."""

    def call(*arguments: object) -> Finished:
        capfd.readouterr()
        code = run.main([str(argument) for argument in arguments])
        return Finished(code, *capfd.readouterr())

    return call
