"""This machine: Beam's in-process portable runner, asked for explicitly.

Beam's own `DirectRunner` first tries to download Prism and, depending on the shape of the
pipeline, silently uses another engine. This is the same runner that it ends up with, at once.
`--direct_num_workers` and `--direct_running_mode` work as in Beam.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import threading
from collections.abc import Iterator

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from runners import worker_errors

# Not imported: it is the main module of the worker processes.
_LOCAL_WORKER = "runners.local_worker"


def create(options: PipelineOptions) -> fn_runner.FnApiRunner:
    """The in-process portable runner; its workers see `options`."""
    worker_errors.do_not_print()
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    environment = None
    direct_options = options.view_as(DirectOptions)
    if direct_options.direct_running_mode == "multi_processing":
        # With this mode Beam would start its own worker module instead.
        direct_options.direct_running_mode = "in_memory"
        command = f"exec {shlex.quote(sys.executable)} -m {_LOCAL_WORKER}"
        environment = SubprocessSDKEnvironment.from_command_string(command)
    return fn_runner.FnApiRunner(
        default_environment=environment,
        provision_info=fn_runner.ExtendedProvisionInfo(provision),
    )


@contextlib.contextmanager
def lost_workers_end_the_job() -> Iterator[None]:
    """Ends this process if a worker process is killed, as by the kernel when memory runs out.

    Beam only notes it in a thread of its own and then waits for that worker for ever.
    """
    before = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if failure.thread is None or failure.thread.name != "run_worker":
            before(failure)
            return
        print(
            f"failed: {failure.exc_value}: was it killed for want of memory? "
            "what is committed stays; the same command continues",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
