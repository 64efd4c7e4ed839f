"""Where the workers are: what Beam's own runners decide, told before they are asked."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.runners.runner import create_runner
from apache_beam.transforms import environments

import runners

HERE = [
    [],
    ["--runner=DirectRunner"],
    ["--runner=DirectRunner", "--direct_running_mode=multi_processing"],
    ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"],
    ["--runner=InteractiveRunner"],
    ["--runner=PrismRunner"],
    ["--runner=FlinkRunner"],
    ["--runner=FlinkRunner", "--flink_master=[local]"],
    ["--runner=SparkRunner"],
    ["--runner=SparkRunner", "--spark_master_url=local[2]"],
    ["--runner=PortableRunner", "--job_endpoint=h:1", "--environment_type=LOOPBACK"],
    ["--runner=FlinkRunner", "--flink_master=h:8081", "--environment_type=LOOPBACK"],
]
ELSEWHERE = [
    ["--runner=DataflowRunner"],
    ["--runner=PortableRunner", "--job_endpoint=h:1"],
    ["--runner=PortableRunner", "--job_endpoint=h:1", "--environment_type=DOCKER"],
    ["--runner=PrismRunner", "--environment_type=EXTERNAL", "--environment_config=h:50000"],
    ["--runner=FlinkRunner", "--flink_master=h:8081"],
    ["--runner=FlinkRunner", "--environment_type=PROCESS"],
    ["--runner=SparkRunner", "--spark_master_url=spark://h:7077"],
    ["--runner=DaskRunner"],
    ["--runner=somebodys.own.Runner"],
]


@pytest.mark.parametrize("words", HERE, ids=" ".join)
def test_workers_on_this_machine(words):
    assert not runners.workers_are_elsewhere(PipelineOptions(words))


@pytest.mark.parametrize("words", ELSEWHERE, ids=" ".join)
def test_workers_that_may_be_on_others(words):
    assert runners.workers_are_elsewhere(PipelineOptions(words))


@pytest.mark.parametrize(
    "words",
    [
        ["--runner=FlinkRunner"],
        ["--runner=FlinkRunner", "--flink_master=h:8081"],
        ["--runner=SparkRunner"],
        ["--runner=SparkRunner", "--spark_master_url=spark://h:7077"],
        ["--runner=PrismRunner"],
        ["--runner=PortableRunner", "--job_endpoint=h:1"],
    ],
    ids=" ".join,
)
def test_beams_runners_decide_the_same(words, monkeypatch):
    """A new Beam may have other defaults."""
    monkeypatch.setattr(environments, "python_sdk_dependencies", lambda *_: ())  # takes seconds
    options = PipelineOptions(words)
    elsewhere = runners.workers_are_elsewhere(options)
    environment = create_runner(words[0].split("=")[1]).default_environment(options)
    is_loopback = environment.to_runner_api(None).urn == python_urns.EMBEDDED_PYTHON_LOOPBACK
    assert is_loopback == (not elsewhere)
