"""The processor: how many cores this process may use, and what they are."""

from __future__ import annotations

import contextlib
import os
import platform


def available_cores() -> int:
    """Cores that this process may run on, at least 1; less than the machine's under `taskset`."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return available or os.cpu_count() or 1


def processor() -> str:
    """What decides which instructions libraries choose: the model and its abilities."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = file.read().partition("\n\n")[0].splitlines()
        return "\n".join(line for line in lines if line.startswith(("model name", "flags")))
    return f"{platform.machine()} {platform.processor()}"
