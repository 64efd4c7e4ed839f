"""The dataset as the last finished run left it; the same as `consumers`, by its first name."""

from transforms.dataset.snapshot import load_features, open_features

__all__ = ["load_features", "open_features"]
