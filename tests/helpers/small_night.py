"""A night in a process that can be forked: all of a run's work on its output, without a model.

The program's own code from the lease to `_SUCCESS`; only what comes out of the model is made up. So
that a fault can be tried at each of its system calls in a fraction of a second.

As a program (`python -m tests.helpers.small_night`) it forks a child for each line of standard
input, the path of an output. The child writes its process id to standard output and waits for
another line; then it has a night, and its exit status is written.
"""

from __future__ import annotations

import collections
import functools
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Mapping

import numpy as np

from pipeline import job
from pipeline.checks import trial
from pipeline.options.door import read_options
from pipeline.output.directory import open_output
from pipeline.settings import Settings
from transforms.batches import BatchPlace, FeatureBatch, ImageRow
from transforms.dataset.columns import PartFormat
from transforms.dataset.layout import part_path
from transforms.dataset.writer import PartWriter
from transforms.errors import CorruptImageError, error_row
from transforms.images.spec import ImageSpec
from transforms.inputs.examples import ExampleSpec
from transforms.inputs.listing import Listing
from transforms.models.source import ModelSource
from transforms.refs import ImageRef
from transforms.shards import ShardPointer, read_shard
from transforms.storage import exists

FINGERPRINT = {"vector": "feature_vector float32[2]"}
BAD = "/in/bad"


def evening() -> dict[str, str]:
    """Version by id, before the night."""
    return {f"/in/{number}": "1-1" for number in range(8)} | {BAD: "1-1"}


def morning() -> dict[str, str]:
    """After it: two images are new, one has changed and one is gone."""
    now = evening() | {"/in/0": "1-2", "/in/8": "1-1", "/in/9": "1-1"}
    del now["/in/1"]
    return now


def run(
    output: str,
    versions: dict[str, str],
    *flags: str,
    mode: str = "sync",
    fingerprint: Mapping[str, str] = FINGERPRINT,
) -> int:
    """A run whose inputs hold these images; its exit code."""
    words = ["--input", "/in", "--output", output, "--mode", mode, "--rows_per_file", "4"]
    options = read_options([*words, *flags])
    refs = [ImageRef(i, i, version, 1) for i, version in sorted(versions.items())]
    listing = Listing(refs, collections.Counter(), [])
    width = int(fingerprint["vector"].partition("[")[2].rstrip("]"))
    part_format = PartFormat(
        "feature_vector", width=width, fingerprint=tuple(sorted(fingerprint.items()))
    )
    settings = Settings(
        source=ModelSource(),
        engine="tensorflow",
        precision="float32",
        parity=None,
        passed_over=None,
        image=ImageSpec(1, 1),
        examples=ExampleSpec(),
        part_format=part_format,
        load_tensorflow=False,
        batch_size=4,
        rates={},
    )
    return job.work(options, time.time(), listing, settings, open_output(output), None)


def make_up(set_attribute: Callable[[object, str, object], None]) -> None:
    """Puts `compute` in place of the pipeline, and tries no model before it.

    Args:
      set_attribute: `setattr`, or that of a `pytest.MonkeyPatch`.
    """
    set_attribute(job, "_compute", compute)
    set_attribute(trial, "tried", lambda settings, todo, accept: settings)


def compute(_, pointers: list[ShardPointer], settings: Settings, target, plan, look) -> None:
    """In place of the pipeline: the shards become parts."""
    for pointer in pointers:
        if exists(part_path(target.directory, pointer.name)):
            continue
        shard = read_shard(pointer)
        good = [ref for ref in shard.refs if ref.id != BAD]
        bad = [ref for ref in shard.refs if ref.id == BAD]
        batch = FeatureBatch(
            vectors(good, settings.part_format.width),
            tuple(ImageRow(ref, 1, 1) for ref in good),
            tuple(error_row(ref, "decode", CorruptImageError("torn")) for ref in bad),
            BatchPlace(shard.name, pointer.size, 0, pointer.size),
        )
        writer = PartWriter(target.directory, settings.part_format, batch.place, look)
        try:
            writer.append(batch)
            writer.commit()
        except BaseException:
            writer.discard()
            raise


def vectors(refs: list[ImageRef], width: int) -> np.ndarray:
    """Values that follow from id and version."""
    sums = [float(sum(f"{ref.id}{ref.version}".encode())) for ref in refs]
    return np.tile(np.array(sums, np.float32)[:, np.newaxis], (1, width))


def serve() -> None:
    """Forks a child for each output on standard input."""
    make_up(setattr)
    run(sys.argv[1], evening())  # and everything is imported
    print("ready", flush=True)
    for line in iter(functools.partial(sys.stdin.readline), ""):
        child = os.fork()
        if child == 0:
            _have_a_night(line.strip())
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _have_a_night(output: str) -> None:
    code = 99
    try:
        print(os.getpid(), flush=True)
        sys.stdin.readline()
        sys.stdout = sys.stderr = open(pathlib.Path(output).with_suffix(".told"), "w")
        code = run(output, morning())
    except BaseException:  # noqa: BLE001 - whatever a fault has made of it
        traceback.print_exc()
        code = 1
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
