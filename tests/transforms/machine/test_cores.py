"""Cores and memory are those that this process may use: by affinity and by cgroups' quotas."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator

import pytest

from tests.helpers.commands import ROOT
from tests.helpers.tree import PACKAGES
from transforms.machine import cgroups
from transforms.machine.cores import available_cores
from transforms.machine.memory import available_memory

GIB = 2**30
V1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
V2_MOUNT = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def v1_mount(controllers: str, root: str = "/") -> str:
    return f"32 31 0:29 {root} /sys/fs/cgroup/{controllers} rw - cgroup cgroup rw,{controllers}\n"


def machine(root: pathlib.Path, groups: str, mounts: str, files: dict[str, str]) -> str:
    """A tree with what the kernel tells of a process's cgroups; returns its root."""
    told = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts} | {
        f"sys/fs/cgroup/{path}": text for path, text in files.items()
    }
    for path, text in told.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "quota"),
    [
        ("0::/\n", V2_MOUNT, {"cpu.max": "20000 100000\n"}, 0.2),
        ("0::/\n", V2_MOUNT, {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", V2_MOUNT, {}, None),
        ("0::/pod/job\n", V2_MOUNT, {"pod/job/cpu.max": "300000 100000"}, 3.0),
        (
            "0::/pod/job\n",
            V2_MOUNT,
            {"pod/job/cpu.max": "max 100000", "pod/cpu.max": "150000 100000", "cpu.max": "max 1"},
            1.5,
        ),
        (
            "0::/pod/job\n",
            V2_MOUNT,
            {"pod/job/cpu.max": "50000 100000", "pod/cpu.max": "150000 100000"},
            0.5,
        ),
        (
            "3:cpuacct,cpu:/job\n0::/\n",
            V1 + v1_mount("cpuacct,cpu"),
            {
                "cpuacct,cpu/job/cpu.cfs_quota_us": "20000\n",
                "cpuacct,cpu/job/cpu.cfs_period_us": "100000\n",
                "cpuacct,cpu/cpu.cfs_quota_us": "-1\n",
                "cpuacct,cpu/cpu.cfs_period_us": "100000\n",
            },
            0.2,
        ),
        (  # a container that sees its own cgroup at the mount point, by its name outside
            "1:cpu:/docker/abc\n",
            v1_mount("cpu", "/docker/abc"),
            {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        (  # or that cannot tell where it is
            "0::/../other\n",
            V2_MOUNT,
            {"cpu.max": "200000 100000"},
            2.0,
        ),
        ("0::/\n", V2_MOUNT, {"cpu.max": "what is this\n"}, None),
        ("0::/\n", V2_MOUNT, {"cpu.max": ""}, None),
        ("", "", {}, None),
    ],
)
def test_the_quota_of_a_cgroup_and_of_those_above_it(
    groups: str, mounts: str, files: dict[str, str], quota: float | None, tmp_path: pathlib.Path
) -> None:
    root = machine(tmp_path, groups, mounts, files)
    assert cgroups.cpu_quota(root) == quota
    here = len(os.sched_getaffinity(0))
    expected = here if quota is None else min(here, max(1, int(-(-quota // 1))))
    assert available_cores(root) == expected


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "left"),
    [
        (
            "0::/pod/job\n",
            V2_MOUNT,
            {
                "pod/memory.max": str(4 * GIB),
                "pod/memory.current": str(3 * GIB),
                "pod/memory.stat": f"anon 7\ninactive_file {GIB}\nactive_file 5\n",
                "pod/job/memory.max": "max\n",
                "pod/job/memory.current": str(GIB),
            },
            2 * GIB,
        ),
        (
            "4:memory:/job\n",
            v1_mount("memory"),
            {
                "memory/job/memory.limit_in_bytes": str(GIB),
                "memory/job/memory.usage_in_bytes": str(GIB // 2),
                "memory/job/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB // 4}\n",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": str(9 * GIB),
            },
            GIB - GIB // 2 + GIB // 4,
        ),
        ("0::/\n", V2_MOUNT, {"memory.max": str(GIB), "memory.current": str(2 * GIB)}, 0),
        ("0::/\n", V2_MOUNT, {"memory.max": "max"}, None),
        ("", "", {}, None),
    ],
)
def test_the_memory_that_a_cgroup_leaves(
    groups: str, mounts: str, files: dict[str, str], left: int | None, tmp_path: pathlib.Path
) -> None:
    root = machine(tmp_path, groups, mounts, files)
    assert cgroups.memory_left(root) == left
    if left is None:
        assert available_memory(root) > 0
    else:
        assert available_memory(root) <= left


def test_affinity() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def in_a_cgroup(files: dict[str, str]) -> Iterator[None]:
    """The main thread, for a moment, in a new cgroup of version 1 with these settings."""
    here = next(iter(cgroups.directories("cpu", version=1)), None)
    if here is None:
        pytest.skip("cgroups of version 1 have no quotas here")
    group = pathlib.Path(here, f"image-features-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        for name, text in files.items():
            (group / name).write_text(text)
        (group / "tasks").write_text(str(os.getpid()))
        yield
    finally:
        pathlib.Path(here, "tasks").write_text(str(os.getpid()))
        group.rmdir()


def test_a_real_quota() -> None:
    with in_a_cgroup({"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}):
        assert cgroups.cpu_quota() == 0.5
        assert available_cores() == 1


def test_nobody_else_asks_how_many_cores_there_are() -> None:
    """Threads, streams and memory follow quotas if they follow from `available_cores`."""
    asks = re.compile(r"cpu_count\(|sched_getaffinity\(|SC_AVPHYS_PAGES|virtual_memory")
    places = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if asks.search(path.read_text("utf-8"))
    }
    assert places == {"transforms/machine/cores.py", "transforms/machine/memory.py"}
