"""Importing TensorFlow without its greetings, where `TF_CPP_MIN_LOG_LEVEL` asks for quiet."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from transforms.machine import native_stderr
from transforms.machine.cores import available_cores, schedulable_cores

_lock = threading.Lock()


@contextlib.contextmanager
def _not_there(package: str) -> Iterator[None]:
    """Within the body a package that is not imported yet cannot be.

    Keras imports Matplotlib for its pictures wherever there is one: every worker would be 0.1 to
    0.4 seconds later, and have its fonts listed in the home directory.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if sys.modules.get(package) is None:
            del sys.modules[package]


def import_tensorflow() -> None:
    """Imports TensorFlow, each operation on one thread, unless somebody has imported it before.

    What its libraries print meanwhile is shown only if the import fails.

    They write to file descriptor 2 before they read `TF_CPP_MIN_LOG_LEVEL`, in every process.
    """
    with _lock:
        if "tensorflow" in sys.modules:
            return
        quiet = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") != "0"
        told = native_stderr.shown_if_it_fails() if quiet else contextlib.nullcontext()
        with told, _not_there("matplotlib"):
            import tensorflow

        if not tensorflow.config.threading.get_intra_op_parallelism_threads():
            # A batch runs in slices instead, and images decode in as many threads as there are
            # cores. TF_NUM_INTRAOP_THREADS has the last word.
            wanted = int(os.environ.get("TF_NUM_INTRAOP_THREADS", 1))
            tensorflow.config.threading.set_intra_op_parallelism_threads(wanted)
        if (
            not tensorflow.config.threading.get_inter_op_parallelism_threads()
            and "TF_NUM_INTEROP_THREADS" not in os.environ
            and available_cores() < schedulable_cores()
        ):  # TensorFlow knows no quotas
            tensorflow.config.threading.set_inter_op_parallelism_threads(available_cores())
