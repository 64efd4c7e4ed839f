"""A training that is killed goes on by the same command; nothing is ever half there."""

from __future__ import annotations

import os
import pathlib
import signal
import sys

import numpy as np
import pytest

from pipeline import train
from tests.helpers.colours import save_grey_extractor, write_colours
from tests.helpers.commands import run
from transforms.storage import faults

ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    at = tmp_path_factory.mktemp("killed")
    images, grey = write_colours(at / "images", 24), save_grey_extractor(at / "grey")
    words = ["--image_dir", images, "--tfhub_module", grey, "--features_dir", at / "vectors"]
    words += ["--do_fine_tuning", "--do_data_augmentation", "--learning_rate", "0.3"]
    words += ["--train_epochs", "3", "--batch_size", "8", "--checkpoint_steps", "2"]
    return [str(word) for word in [*words, "--folds", "2", "--accept_model"]]


def values(model: pathlib.Path) -> dict[str, np.ndarray]:
    """The model's variables by their names in the file."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(model / "variables" / "variables"))
    names = [name for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
    assert len(names) >= 4
    return {name: reader.get_tensor(name) for name in names}


def test_the_same_command_goes_on_to_the_same_weights(words, tmp_path):
    command = [sys.executable, "-m", "pipeline.train", *words, "--output", tmp_path / "model"]
    killed = run(command, env={**os.environ, **ONE_THREAD, faults.VARIABLE: "tuning_step:8"})
    assert killed.code == -signal.SIGKILL, killed.err
    assert not (tmp_path / "model").exists()
    finished = run(command, env={**os.environ, **ONE_THREAD})
    assert finished.code == 0, finished.err
    assert "going on after step " in finished.err
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"model", "model-checkpoints"}
    assert train.main([*words, "--output", str(tmp_path / "whole")]) == 0
    once, twice = values(tmp_path / "whole"), values(tmp_path / "model")
    assert once.keys() == twice.keys()
    for name, value in once.items():
        np.testing.assert_allclose(twice[name], value, rtol=0, atol=1e-6, err_msg=name)
