"""Where what was made once is kept on this machine: models, converted graphs, what was measured."""

from __future__ import annotations

import os


def cache_path(*names: str, root: str | None = None) -> str:
    """An absolute path in the cache; nothing is made.

    Args:
      names: below the cache.
      root: the cache; None: `$BEAM_IMAGE_FEATURES_CACHE`, else
        `$XDG_CACHE_HOME/beam-image-features`, else `~/.cache/beam-image-features`.
    """
    if not root:
        root = os.environ.get("BEAM_IMAGE_FEATURES_CACHE") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "beam-image-features"
        )
    return os.path.join(os.path.abspath(os.path.expanduser(root)), *names)
