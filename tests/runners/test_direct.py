"""The runner on this machine: how many bundles it works on at once."""

from __future__ import annotations

import threading

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

import runners
from runners import direct
from tests.helpers.commands import PATIENCE_SECONDS
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
