"""Quiet logs by default; everything with `--verbose`."""

from __future__ import annotations

import logging
import os
import warnings


def set_up(verbose: bool) -> None:
    """To be called before TensorFlow and Beam are imported; worker processes inherit it."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR)
    if not verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        warnings.filterwarnings("ignore")
