"""The program: images to feature vectors or logits in Parquet, from the command line."""

import importlib.metadata

PROGRAM = "beam-image-features"

try:
    __version__ = importlib.metadata.version(PROGRAM)
except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"
