"""What the vectors are for; it knows the dataset's format and not Beam's graph."""

from transforms.dataset.snapshot import load_features, open_features
from transforms.dataset.warned import load_warnings

__all__ = ["load_features", "load_warnings", "open_features"]
