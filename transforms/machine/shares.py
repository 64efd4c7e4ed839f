"""What a process may take of a machine that several worker processes share.

Each of them has threads and read-ahead of its own: they must not multiply. A runner that starts
them says how many there are; `$BEAM_IMAGE_FEATURES_PROCESSES` says it where no runner does.
"""

from __future__ import annotations

import os

from transforms.machine import cgroups

PROCESSES = "BEAM_IMAGE_FEATURES_PROCESSES"


def processes_here() -> int:
    """How many worker processes share this machine; 1 where nobody says it."""
    value = os.environ.get(PROCESSES, "")
    return max(1, int(value)) if value.isdecimal() else 1


def memory_share(root: str = "/") -> int:
    """Bytes for this process: those of the machine or container, over the processes there.

    Args:
      root: where `/proc` and `/sys` are found.
    """
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    left = cgroups.memory_left(root)
    return (whole if left is None else min(whole, left)) // processes_here()
