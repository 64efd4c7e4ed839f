"""Quiet logs by default; everything with `--verbose`."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


def set_up(verbose: bool) -> None:
    """To be called before TensorFlow and Beam are imported; worker processes inherit it."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR)
    if not verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        warnings.filterwarnings("ignore")


@contextlib.contextmanager
def native_stderr_held_back() -> Iterator[None]:
    """Holds back what native code writes to stderr; shows it if the body raises.

    TensorFlow's libraries greet on file descriptor 2 while they are imported, before their log
    level can be set. What Python prints meanwhile, in any thread, still appears.
    """
    if logging.getLogger().isEnabledFor(logging.INFO):
        yield
        return
    sys.stderr.flush()
    real = os.dup(2)
    python_stderr = sys.stderr
    sys.stderr = os.fdopen(os.dup(real), "w", buffering=1, encoding="utf-8", errors="replace")
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
            ours, sys.stderr = sys.stderr, python_stderr
            ours.flush()
