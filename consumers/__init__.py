"""What the vectors are for; it knows the dataset's format and not Beam's graph."""

from consumers.features import Features, load_features
from consumers.readers.arrays import vector_array
from transforms.dataset.snapshot import open_features
from transforms.dataset.warned import load_warnings

__all__ = ["Features", "load_features", "load_warnings", "open_features", "vector_array"]
