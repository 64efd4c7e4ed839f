"""Where the workers of each of Beam's runners are: on this machine, or on others.

What Beam's own `default_environment` of each runner decides, without asking it: it looks for
container images, too.
"""

from __future__ import annotations

import re

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
)
from apache_beam.portability import python_urns
from apache_beam.runners.portability import flink_runner, spark_runner

# They run in the launcher's process.
_IN_PROCESS = frozenset(
    {"bundlebaseddirectrunner", "interactiverunner", "switchingdirectrunner", "testdirectrunner"}
)

# With an environment of this type the launcher itself is the worker.
_HERE = frozenset(
    {"loopback", python_urns.EMBEDDED_PYTHON, python_urns.EMBEDDED_PYTHON_GRPC}
    | {python_urns.EMBEDDED_PYTHON_LOOPBACK, python_urns.SUBPROCESS_SDK}
)


def keeps_workers_here(name: str, options: PipelineOptions) -> bool:
    """Whether a runner's workers are on this machine for sure.

    Args:
      name: of the runner, in small letters, without its module.
      options: with what its flags say.
    """
    if name in _IN_PROCESS:
        return True
    portable = options.view_as(PortableOptions)
    if portable.environment_type:
        return portable.environment_type.lower() in _HERE
    if portable.output_executable_path:
        return False
    if name == "flinkrunner":
        master = options.view_as(FlinkRunnerOptions).flink_master
        return master in flink_runner.MAGIC_HOST_NAMES
    if name == "sparkrunner":
        master = options.view_as(SparkRunnerOptions).spark_master_url
        return re.match(spark_runner.LOCAL_MASTER_PATTERN, master) is not None
    return name in ("prismrunner", "kafkastreamsrunner")
