"""Calls that get so much memory and time and no more, each in a process of its own.

The processes are forked from one that has imported what reads files and no TensorFlow: a call costs
hundredths of a second.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import pathlib
import pickle
import resource
from collections.abc import Callable
from typing import Any, TypeVar

# Imported before it is forked.
_PRELOADED = [
    "pipeline.output.observer",
    "transforms.images.decode",
    "transforms.inputs.tfrecord",
    "transforms.models.archives",
    "transforms.models.keras_file",
]

# For the first process and what the module imports, whatever the machine does besides.
_SECONDS_TO_BEGIN = 300.0

T = TypeVar("T")


def within_limits(
    function: Callable[..., T], *arguments: Any, more_bytes: int = 2**28, seconds: float = 20.0
) -> T:
    """What a function of a module gives, within limits.

    Args:
      function: of a module, which is pickled, as its arguments and what it gives or raises are.
      arguments: of the function.
      more_bytes: address space that it may take in addition to what its process has.
      seconds: that it may take, from when it begins.

    Raises:
      AssertionError: it took more, or ended its process.
      Exception: what the function raises.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_call, args=(theirs, more_bytes, function, arguments), daemon=True
    )
    process.start()
    theirs.close()
    try:
        try:
            if not ours.poll(_SECONDS_TO_BEGIN):
                raise AssertionError("did not begin")
            ours.recv_bytes()
            if not ours.poll(seconds):
                raise AssertionError(f"took more than {seconds:g} s")
            good, result = pickle.loads(ours.recv_bytes())
        except EOFError:
            process.join()
            raise AssertionError(f"ended its process: exit code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if good:
        return result
    if isinstance(result, MemoryError):
        raise AssertionError(f"took more than {more_bytes >> 20} MiB") from result
    raise result


def _call(
    answer: multiprocessing.connection.Connection,
    more_bytes: int,
    function: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:
    answer.send_bytes(b"begins")
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    result: tuple[bool, object]
    try:
        result = True, function(*arguments)
    except Exception as error:  # noqa: BLE001 - the caller's process raises it
        result = False, error
    answer.send_bytes(pickle.dumps(result))
