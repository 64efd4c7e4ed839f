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
from transforms.machine import native_stderr
from transforms.machine.cores import available_cores
from transforms.machine.shares import PROCESSES

# Not imported: it is the main module of the worker processes.
_LOCAL_WORKER = "runners.local_worker"

# A batch of 32 images gives the engine at least 4 slices, for as many cores.
_CORES_A_BATCH_FEEDS = 4


def default_threads(cores: int) -> int:
    """Bundles to work on at once: enough that their batches feed all cores, and one more.

    The one more has a batch for the cores that would idle while another's batch comes to its end,
    or while another shard begins or is written.

    >>> [default_threads(cores) for cores in (1, 2, 8, 64)]
    [2, 2, 3, 17]
    """
    return -(-cores // _CORES_A_BATCH_FEEDS) + 1


def use_threads_by_default(options: PipelineOptions) -> None:
    """Asks for `default_threads`, unless `options` say anything but Beam's own defaults.

    One bundle at a time is `--direct_running_mode=multi_threading --direct_num_workers=1`.
    """
    direct_options = options.view_as(DirectOptions)
    asked = direct_options.direct_running_mode, direct_options.direct_num_workers
    if asked == ("in_memory", 1):
        direct_options.direct_running_mode = "multi_threading"
        direct_options.direct_num_workers = default_threads(available_cores())
    elif asked[1] == 0:  # Beam would take the machine's, whatever the quota
        direct_options.direct_num_workers = available_cores()


def bundles_at_once(options: PipelineOptions) -> int:
    """How many bundles are worked on at a time; of 0 workers there is one for each core."""
    return options.view_as(DirectOptions).direct_num_workers or available_cores()


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
        shared = f"env {PROCESSES}={bundles_at_once(options)}"
        command = f"exec {shared} {shlex.quote(sys.executable)} -m {_LOCAL_WORKER}"
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
        native_stderr.give_back()
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
