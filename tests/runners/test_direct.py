"""The runner on this machine: how many bundles it works on at once."""

from __future__ import annotations

import pathlib
import threading

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

import runners
from runners import direct
from tests.helpers.commands import PATIENCE_SECONDS
from tests.helpers.images import write_random_images
from tests.helpers.tiny_model import TINY_SIZE
from transforms import (
    DecodeShards,
    ImageRef,
    ImageSpec,
    InferFeatures,
    ModelSource,
    Shard,
    write_plan,
)
from transforms.machine.cores import available_cores
from transforms.machine.shares import PROCESSES

AT_ONCE = direct.default_threads(available_cores())
TOGETHER = threading.Barrier(AT_ONCE)


def wait_for_the_others(element: int) -> int:
    TOGETHER.wait(PATIENCE_SECONDS)  # fails if they do not come
    return element


def test_several_bundles_run_at_once_in_this_process_unless_asked_otherwise():
    options = PipelineOptions([])
    with beam.Pipeline(runner=runners.create(options), options=options) as pipeline:
        pipeline | beam.Create(range(AT_ONCE)) | beam.Map(wait_for_the_others)
    assert runners.bundles_at_once(options) == AT_ONCE >= 2


def test_several_bundles_use_a_model_at_once(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    paths = write_random_images(tmp_path / "images", AT_ONCE)
    shards = [Shard((ImageRef(str(path), str(path), "1"),)) for path in paths]
    pointers = write_plan(shards, str(tmp_path / "plan"), "run")
    options = PipelineOptions([])
    with beam.Pipeline(runner=runners.create(options), options=options) as pipeline:
        starts = (
            pipeline
            | beam.Create(pointers)
            | DecodeShards(ImageSpec(TINY_SIZE, TINY_SIZE))
            | InferFeatures(ModelSource(str(tiny_model)))
            | beam.Map(lambda batch: wait_for_the_others(len(batch)))
        )
        assert_that(starts, equal_to([1] * AT_ONCE))


@pytest.mark.parametrize(
    ("flags", "at_once"),
    [
        (["--direct_num_workers=3"], 3),
        (["--direct_num_workers=1", "--direct_running_mode=multi_threading"], 1),
        (["--direct_running_mode=multi_processing"], 1),
        (["--direct_num_workers=0"], available_cores()),
        (["--runner=FlinkRunner", "--direct_num_workers=3"], 1),
    ],
)
def test_what_is_asked_for_is_done(flags: list[str], at_once: int):
    options = PipelineOptions(flags)
    runners.create(options)
    assert runners.bundles_at_once(options) == at_once


def test_worker_processes_know_how_many_they_are():
    options = PipelineOptions(["--direct_running_mode=multi_processing", "--direct_num_workers=3"])
    assert direct.create(options)._provision_info.variables == {PROCESSES: "3"}
