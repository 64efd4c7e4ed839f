"""Nothing of a run on this machine leaves it, whatever its libraries would like to tell."""

from __future__ import annotations

import os
import pathlib

import pytest

from tests.helpers.commands import run_command
from tests.helpers.images import write_random_images

# What each process of a command writes down: connections that leave this machine, and forks, which
# take a copy of threads' locks along and leave the threads behind.
WRITES_DOWN = """
import os, sys

def write_down(event, arguments):
    said = event
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            said += f" {address}"
        else:
            return
    elif event == "urllib.Request":
        said += f" {arguments[0]}"
    elif event != "os.fork":
        return
    with open(os.environ["WRITTEN_DOWN"], "a") as file:
        file.write(said + "\\n")

sys.addaudithook(write_down)
"""


@pytest.mark.parametrize(
    "flags",
    [
        ["--engine", "tensorflow"],
        ["--engine", "openvino"],
        ["--engine", "auto", "--direct_num_workers=2", "--direct_running_mode=multi_processing"],
    ],
    ids=["tensorflow", "openvino", "two_workers"],
)
def test_a_run_sends_nothing_and_forks_nothing(
    flags: list[str], tiny_model: pathlib.Path, tmp_path: pathlib.Path
):
    write_random_images(tmp_path / "images", 20)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WRITES_DOWN)
    (tmp_path / "home").mkdir()
    written = tmp_path / "written"
    written.touch()
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path / "site"),
        "WRITTEN_DOWN": str(written),
        "HOME": str(tmp_path / "home"),
        "BEAM_IMAGE_FEATURES_CACHE": str(tmp_path / "cache"),  # so that the model is converted
    }
    environment.pop("CI", None)  # where some libraries keep quiet
    arguments = ["--input", tmp_path / "images", "--model", tiny_model]
    done = run_command(*arguments, "--output", tmp_path / "out", *flags, env=environment)
    assert done.code == 0, done.err
    assert written.read_text() == ""
    # Keras writes down there how it is configured.
    assert {path.name for path in (tmp_path / "home").iterdir()} <= {".keras"}
