"""The processor: how many cores this process may use, and what they are."""

from __future__ import annotations

import contextlib
import math
import os
import platform

from transforms.machine import cgroups
from transforms.machine.shares import processes_here


def available_cores(root: str = "/") -> int:
    """Cores that this process may use, at least 1.

    Less than the machine's under `taskset`, and in a container with a quota: half a core of time is
    a core, one and a half are two. Where several worker processes share them, each has its part:
    their threads do not multiply.

    Args:
      root: where `/proc` and `/sys` are found.
    """
    cores = schedulable_cores()
    quota = cgroups.cpu_quota(root)
    if quota is not None:
        cores = min(cores, math.ceil(quota))
    return max(1, cores // processes_here())


def schedulable_cores() -> int:
    """Cores that this process may run on, which is all that most libraries ask for."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return available or os.cpu_count() or 1


def processor() -> str:
    """What decides which instructions libraries choose: the model and its abilities."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = file.read().partition("\n\n")[0].splitlines()
        return "\n".join(line for line in lines if line.startswith(("model name", "flags")))
    return f"{platform.machine()} {platform.processor()}"
