"""The runner on this machine: how many bundles it works on at once."""

from __future__ import annotations

import threading

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

import runners
from transforms.cores import available_cores

TOGETHER = threading.Barrier(2)


def wait_for_another(element: int) -> int:
    TOGETHER.wait(timeout=60)
    return element


def test_two_bundles_run_at_once_in_this_process_unless_asked_otherwise():
    options = PipelineOptions([])
    runner = runners.create(options)
    assert runners.bundles_at_once(options) >= 2
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        elements = pipeline | beam.Create(range(2 * runners.bundles_at_once(options)))
        waited = elements | beam.Map(wait_for_another) | beam.combiners.Count.Globally()
        waited | beam.Map(lambda count: None if count else TOGETHER.abort())


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
