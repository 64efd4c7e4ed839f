"""Quiet logs by default; everything with `--verbose`."""

from __future__ import annotations

import logging
import os
import warnings

from pipeline.output.disk import disk_is_full


def set_up(verbose: bool) -> None:
    """To be called before TensorFlow and Beam are imported; worker processes inherit it."""
    handler = logging.StreamHandler()
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, handlers=[handler])
    if not verbose:
        handler.addFilter(_tells_more_than_the_exception)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        warnings.filterwarnings("ignore")


def _tells_more_than_the_exception(record: logging.LogRecord) -> bool:
    """Not so of Beam's tracebacks of a full disk: where the program ends, it says that in words."""
    return not (record.name.startswith("apache_beam.") and disk_is_full(record.getMessage()))
