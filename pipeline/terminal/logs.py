"""Quiet logs by default; everything with `--verbose`."""

from __future__ import annotations

import errno
import logging
import os
import warnings

_DISK_IS_FULL = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]


def set_up(verbose: bool) -> None:
    """To be called before TensorFlow and Beam are imported; worker processes inherit it."""
    handler = logging.StreamHandler()
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, handlers=[handler])
    if not verbose:
        handler.addFilter(_tells_more_than_the_exception)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        warnings.filterwarnings("ignore")


def disk_is_full(text: str) -> bool:
    """Whether a message is about a full disk: what workers raise, Beam hands on as text."""
    return any(message in text for message in _DISK_IS_FULL)


def _tells_more_than_the_exception(record: logging.LogRecord) -> bool:
    """Not so of Beam's tracebacks of a full disk: where the program ends, it says that in words."""
    return not (record.name.startswith("apache_beam.") and disk_is_full(record.getMessage()))
