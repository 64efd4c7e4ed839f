"""This machine: Beam's in-process portable runner, asked for explicitly.

Beam's own `DirectRunner` first tries to download Prism and, depending on the shape of the
pipeline, silently uses another engine. This is the same runner that it ends up with, at once.
`--direct_num_workers` and `--direct_running_mode` work as in Beam, and open no port.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from runners import worker_errors, workers_here
from transforms.machine import native_stderr
from transforms.machine.cores import available_cores
from transforms.machine.shares import PROCESSES

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
    """The in-process portable runner; its workers see `options`. It listens on no port."""
    worker_errors.do_not_print()
    workers_here.put_in_place()
    logging.getLogger(fn_runner.__name__).addFilter(_is_not_of_our_mode)
    environment = None
    provision = workers_here.Provision()
    direct_options = options.view_as(DirectOptions)
    if direct_options.direct_running_mode == "multi_processing":
        encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
        variables = {PROCESSES: str(bundles_at_once(options))}
        provision = workers_here.Provision(encoded, variables)
        environment = workers_here.ProcessEnvironment()
    # With any other mode Beam would take its own workers, which are reached by ports.
    direct_options.direct_running_mode = "in_memory"
    return fn_runner.FnApiRunner(default_environment=environment, provision_info=provision)


def _is_not_of_our_mode(record: logging.LogRecord) -> bool:
    """Beam warns that in memory several workers are no faster; ours are threads or processes."""
    return "direct_running_mode" not in str(record.msg)


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
