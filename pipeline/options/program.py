"""The program's name as it was called, and its version."""

from __future__ import annotations

import pathlib
import sys

from pipeline import PROGRAM, __version__

VERSION = f"{PROGRAM} {__version__}"


# The verbs, and what each does.
VERBS = {
    "run": "images to feature vectors or logits in Parquet",
    "inspect": "what a model is, and whether a run can use it",
    "train": "labelled vectors or images to a model that classifies images",
    "status": "how far a run is",
    "verify": "whether an output is whole and can be made again",
    "compact": "many small parts into few",
}


def called(verb: str = "") -> str:
    """What to type for a verb, in the way in which this process was called.

    That is `beam-image-features VERB` for the installed command, else `python -m pipeline.VERB`,
    which works wherever the packages are.
    """
    if pathlib.PurePath(sys.argv[0]).stem == PROGRAM:
        return f"{PROGRAM} {verb}".rstrip()
    return f"python -m pipeline.{verb}".rstrip(".")
