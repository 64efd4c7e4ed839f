"""What the vectors are for; it knows the dataset's format and not Beam's graph."""

from transforms.dataset.snapshot import load_features, open_features

__all__ = ["load_features", "open_features"]
