"""`python -m pipeline.train`: vectors or images with labels to a SavedModel that classifies images.

Only parses, calls and gives the exit code, as `pipeline.run` does, which it may call.
"""

from __future__ import annotations

from pipeline import start

if __name__ == "__main__":  # first, as what is imported below may fail
    start.end_process(start.begin("pipeline.train:main"))

import os
import sys

from pipeline.terminal import ending, logs

_HOW_TO_CONTINUE = "no model was written; the same command goes on from what is kept"


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    logs.set_up(verbose="--verbose" in argv)
    return ending.told_to_the_end(_train, argv, _HOW_TO_CONTINUE)


def _train(argv: list[str]) -> int:
    from pipeline.training.door import read_train_options
    from pipeline.training.work import train
    from transforms.machine.cores import available_cores

    options = read_train_options(argv)
    if options.tuning is not None:  # a step is one batch, and no slices of it run beside each other
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(available_cores()))
    return train(options)
