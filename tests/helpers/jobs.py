"""A job of real images that is killed for real, and whose model writes down each image it sees."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import PIL.Image
import psutil

from tests.helpers.commands import PATIENCE_SECONDS, start
from tests.helpers.tiny_model import TINY_SIZE, TINY_WIDTH
from transforms.storage import TEMPORARY_PREFIX


def write_crops(photos: list[pathlib.Path], directory: pathlib.Path, count: int) -> list[str]:
    """Cuts JPEGs of 64×48 pixels out of real photos, each at another place; returns their ids."""
    random = np.random.default_rng(count)
    sources = [PIL.Image.open(path).convert("RGB") for path in photos]
    sources = [image for image in sources if min(image.size) > 100]
    directory.mkdir()
    paths = []
    while len(paths) < count:
        image = sources[random.integers(len(sources))]
        left, top = (int(random.integers(0, size - 64)) for size in image.size)
        crop = image.crop((left, top, left + 64, top + 48))
        if max(high for _, high in crop.getextrema()) > 10:  # black ones are not counted
            path = directory / f"{len(paths):05d}.jpg"
            crop.save(path, quality=90)
            paths.append(str(path))
    return paths


# Images that the launcher of a run that has something to do reads, to try the model on them.
TRIED = 4


def save_counting_model(directory: pathlib.Path, log: pathlib.Path) -> pathlib.Path:
    """A small SavedModel that appends to `log`, at each call, a number for each image it got.

    Black images and those that are brighter than white do not count: the launcher tries the model
    on some.
    """
    import tensorflow as tf

    class Counting(tf.Module):
        def __init__(self):
            super().__init__()
            shape = [TINY_SIZE, TINY_SIZE, 3]
            self.kernel = tf.Variable(tf.random.stateless_normal([5, 5, 3, TINY_WIDTH], [1, 2]))
            self.weights = tf.Variable(
                tf.random.stateless_uniform(shape, [3, 4], 1, 2**30, tf.int64)
            )

        @tf.function(input_signature=[tf.TensorSpec([None, TINY_SIZE, TINY_SIZE, 3], tf.float32)])
        def __call__(self, images):
            whole = tf.cast(tf.round(images * 65536.0), tf.int64)  # integers add up in any order
            number = tf.reduce_sum(whole * self.weights, [1, 2, 3])
            bright = tf.reduce_max(images, [1, 2, 3]) > 1.0
            number = tf.where(bright, tf.zeros_like(number), number)
            printed = tf.print(number, output_stream=f"file://{log}", summarize=-1)
            with tf.control_dependencies([printed]):
                images = tf.identity(images)
            return tf.reduce_mean(tf.nn.conv2d(images, self.kernel, 2, "SAME"), [1, 2])

    tf.saved_model.save(Counting(), str(directory))
    return directory


def logged(log: pathlib.Path) -> int:
    """How many different images a counting model has seen since it was asked before."""
    seen = set(log.read_text().replace("[", " ").replace("]", " ").split()) - {"0"}
    log.write_text("")
    return len(seen)


@dataclasses.dataclass
class Job:
    """One command that is run again and again into one output.

    Attributes:
      arguments: of `pipeline.run`.
      output: its output directory.
      seen: how many images were computed until now, in all runs together.
    """

    arguments: list[str]
    output: pathlib.Path
    seen: Callable[[], int] | None = None

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """Starts the command as the leader of a process group of its own."""
        return start(
            [sys.executable, "-m", "pipeline.run", *self.arguments],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def finish(self) -> str:
        """Runs the command to its end, which must be a good one; returns what it printed."""
        process = self.start()
        printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, printed
        return printed

    def parts(self) -> list[str]:
        """Names of the committed parts."""
        return [path.name for path in self.output.glob("part-*.parquet")]

    def wait_for_parts(self, process: subprocess.Popen[str], more: int) -> bool:
        """Waits until there are so many more parts; False if the process ends before."""
        wanted = len(self.parts()) + more
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            if len(self.parts()) >= wanted:
                return True
            if waits(process, 0.01):
                return False
        raise AssertionError(f"no part within {PATIENCE_SECONDS} s")

    def wait_for_lease(self, process: subprocess.Popen[str]) -> None:
        """Waits until it is this process that works on the output."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(FileNotFoundError):
                if json.loads((self.output / "_lease.json").read_text())["pid"] == process.pid:
                    return
            assert not waits(process, 0.01), process.communicate()
        raise AssertionError(f"no lease within {PATIENCE_SECONDS} s")

    def computed(self) -> int:
        """How many images were computed, in all runs together."""
        assert self.seen is not None
        return self.seen()

    def rows(self) -> pd.DataFrame:
        """The rows by id, in the order of the ids; each id is there once."""
        table = pd.read_parquet(self.output).set_index("id").sort_index()
        assert table.index.is_unique
        return table

    def check_nothing_temporary(self) -> None:
        """What a finished run leaves: parts and their descriptions."""
        names = {path.name for path in self.output.iterdir()} - set(self.parts())
        assert names <= {"_SUCCESS", "_run.json", "_snapshot.json", "_errors", "_previous"}, names
        assert not list(self.output.rglob(f"{TEMPORARY_PREFIX}*"))


def waits(process: subprocess.Popen[str], seconds: float) -> bool:
    """Waits that long for the end of a process; returns whether it came."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker processes of a launcher."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "runners.local_worker" in " ".join(child.cmdline()):
                found.append(child)
    # What a worker starts has its command line, too, until it is another program.
    return [worker for worker in found if worker.ppid() not in {other.pid for other in found}]


def kill_group(process: subprocess.Popen[str]) -> None:
    """`kill -9` of the command and all its workers."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SECONDS)
