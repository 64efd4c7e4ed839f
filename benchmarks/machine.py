"""What a session ran on."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform

import psutil

PACKAGES = ("tensorflow", "apache-beam", "openvino", "ray", "daft", "pyarrow", "numpy")


def describe() -> list[str]:
    """Processor, memory, system and versions, in lines of text."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    info = dict(line.split("\t", 1) for line in reversed(lines) if "\t" in line)
    model = info.get("model name", "").strip("\t: ") or platform.machine()
    flags = info.get("flags", "").split()
    has = [flag for flag in ("avx2", "avx512f", "amx_bf16", "hypervisor") if flag in flags]
    memory = psutil.virtual_memory().total / 2**30
    return [
        f"{model} ({', '.join(has)}), {len(os.sched_getaffinity(0))} cores that may be used, "
        f"{memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; {', '.join(map(_version, PACKAGES))}.",
        f"Load average of the last 15 minutes before: {os.getloadavg()[2]:.1f}.",
    ]


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {package}"
