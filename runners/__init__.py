"""What each engine needs to run the pipeline."""

from __future__ import annotations

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineRunner

from runners import direct

LOCAL_NAMES = frozenset({"directrunner", "fnapirunner"})


def create(options: PipelineOptions) -> PipelineRunner | str:
    """The runner that `--runner` asks for; `DirectRunner` is Beam's in-process portable runner.

    Returns:
      a runner, or the name of one that Beam knows.
    """
    name = options.view_as(StandardOptions).runner or "DirectRunner"
    return direct.create(options) if is_local(options) else name


def is_local(options: PipelineOptions) -> bool:
    """Whether the pipeline runs on this machine, in Beam's in-process portable runner."""
    name = options.view_as(StandardOptions).runner or "DirectRunner"
    return name.rsplit(".", 1)[-1].lower() in LOCAL_NAMES
