"""Quiet logs by default; everything with `--verbose`."""

from __future__ import annotations

import logging
import os
import warnings


def set_up(verbose: bool) -> None:
    """To be called before TensorFlow and Beam are imported; worker processes inherit it."""
    handler = logging.StreamHandler()
    handler.setFormatter(MaskingFormatter(logging.BASIC_FORMAT))
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, handlers=[handler])
    if not verbose:
        handler.addFilter(_tells_more_than_the_exception)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        warnings.filterwarnings("ignore")


class MaskingFormatter(logging.Formatter):
    """Lines and tracebacks without the secrets of options, URLs and headers."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's text, masked."""
        from transforms.storage.secrets import masked  # not before all is set up

        return masked(super().format(record))


# Where Beam tells what a worker raised; each layer does it once more.
_TELLERS = ("common", "worker.sdk_worker", "portability")


def _tells_more_than_the_exception(record: logging.LogRecord) -> bool:
    """Not so of Beam's tracebacks: where the program ends, it says why."""
    package, _, module = record.name.partition(".runners.")
    if package != "apache_beam" or not module.startswith(_TELLERS):
        return True
    return not (record.exc_info or "Traceback (most recent call last)" in record.getMessage())
