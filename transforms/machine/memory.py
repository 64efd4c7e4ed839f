"""How much memory is free for this process."""

from __future__ import annotations

import os

from transforms.machine import cgroups


def available_memory(root: str = "/") -> int:
    """Bytes that are free, as far as the system tells, and that this process's cgroup leaves it.

    Args:
      root: where `/proc` and `/sys` are found.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    left = cgroups.memory_left(root)
    return free if left is None else min(free, left)
