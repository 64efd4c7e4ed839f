"""Several worker processes on a machine take no more of it than one."""

from __future__ import annotations

import pytest

from transforms.machine import shares
from transforms.machine.cores import available_cores


@pytest.mark.parametrize(
    ("said", "processes"), [(None, 1), ("", 1), ("4", 4), ("0", 1), ("many", 1), ("-2", 1)]
)
def test_the_variable_says_how_many_there_are(monkeypatch, said, processes):
    monkeypatch.delenv(shares.PROCESSES, raising=False)
    monkeypatch.setattr(shares.cgroups, "memory_left", lambda root: 2**30)  # it changes
    whole = available_cores(), shares.memory_share()
    if said is not None:
        monkeypatch.setenv(shares.PROCESSES, said)
    assert shares.processes_here() == processes
    assert available_cores() == max(1, whole[0] // processes)
    assert shares.memory_share() == whole[1] // processes


def test_memory_is_that_of_the_container(monkeypatch):
    monkeypatch.setattr(shares.cgroups, "memory_left", lambda root: 2**20)
    assert shares.memory_share() == 2**20
