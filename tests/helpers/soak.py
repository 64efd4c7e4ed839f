"""How often and how much: `make test` does enough to see each fault happen, `make soak` far more.

Nothing else differs between the two: the same tests with the same assertions.
"""

from __future__ import annotations

import os
from typing import TypeVar

SOAK = os.environ.get("IMAGE_FEATURES_SOAK", "0") == "1"

T = TypeVar("T")


def usual_or_soak(usual: T, soak: T) -> T:
    """The first in `make test`, the second in `make soak`."""
    return soak if SOAK else usual
