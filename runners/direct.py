"""This machine: Beam's in-process portable runner, asked for explicitly.

Beam's own `DirectRunner` first tries to download Prism and, depending on the shape of the
pipeline, silently uses another engine. This is the same runner that it ends up with, at once.
`--direct_num_workers` and `--direct_running_mode` work as in Beam.
"""

from __future__ import annotations

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle


def create(options: PipelineOptions) -> fn_runner.FnApiRunner:
    """The in-process portable runner; its workers see `options`."""
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(provision))
