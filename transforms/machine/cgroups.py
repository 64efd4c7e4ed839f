"""What a container, a pod or a batch job may use of its machine: the kernel's control groups.

A group's limits hold for the groups in it as well. Version 2 has one tree, version 1 one for each
controller; a machine may have both (https://docs.kernel.org/admin-guide/cgroup-v2.html, and
cgroup-v1/). Where nothing can be read, nothing is limited.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal

Version = Literal[1, 2]


def cpu_quota(root: str = "/") -> float | None:
    """CPU seconds that this process may use in a second; None: as many as there are.

    Args:
      root: where `/proc` and `/sys` are found.
    """
    quotas = []
    for directory in directories("cpu", 2, root):
        quota, _, period = _text(directory, "cpu.max").partition(" ")
        quotas.append(_ratio(quota, period))
    for directory in directories("cpu", 1, root):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quotas.append(_ratio(*(_text(directory, name) for name in names)))
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_left(root: str = "/") -> int | None:
    """Bytes that this process may still take; None: as many as there are.

    What the kernel keeps of files that nobody reads any more counts as free.
    """
    left = []
    files = {
        2: ("memory.max", "memory.current", "inactive_file"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }
    for version, (limit, usage, inactive) in files.items():
        for directory in directories("memory", version, root):
            most, used = (_number(_text(directory, name)) for name in (limit, usage))
            stat = dict(line.split(" ", 1) for line in _text(directory, "memory.stat").splitlines())
            if most is not None and used is not None:
                left.append(max(0, most - used + (_number(stat.get(inactive, "")) or 0)))
    return min(left, default=None)


def directories(controller: str, version: int, root: str = "/") -> Iterator[str]:
    """Of this process's group in a controller's tree, and of the groups above it."""
    for mounted, mount_root in _mounts(controller, version, root):
        for line in _text(root, "proc/self/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            if (controller in controllers.split(",")) if version == 1 else not controllers:
                inside = os.path.relpath(path, mount_root)
                names = inside.split(os.sep)
                if inside == "." or ".." in names or ".." in path.split("/"):
                    names = []  # at the mount, or somewhere that cannot be seen from here
                for depth in range(len(names), -1, -1):
                    yield os.path.join(root, mounted.lstrip("/"), *names[:depth])


def _mounts(controller: str, version: int, root: str) -> Iterator[tuple[str, str]]:
    """Where a controller's tree is mounted, and which of its groups is seen there (proc(5))."""
    for line in _text(root, "proc/self/mountinfo").splitlines():
        mount, _, filesystem = line.partition(" - ")
        kind, _, options = filesystem.split(" ", 2)
        has_it = version == 2 or controller in options.split(",")
        if kind == {1: "cgroup", 2: "cgroup2"}[version] and has_it:
            _, _, _, mount_root, mounted = mount.split(" ")[:5]
            yield mounted, mount_root


def _text(directory: str, name: str) -> str:
    try:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None  # `max` and -1 are no limit


def _ratio(quota: str, period: str) -> float | None:
    of, each = _number(quota), _number(period)
    return of / each if of and each else None
