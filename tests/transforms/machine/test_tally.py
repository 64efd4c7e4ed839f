"""What the processes of a machine tell of the images that they have done."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from tests.helpers.commands import ROOT
from transforms.machine import tally


def test_without_somebody_who_asks_nothing_is_kept() -> None:
    assert tally.VARIABLE not in os.environ
    tally.add(3, 1)


def test_threads_and_processes_add_up_and_a_later_job_begins_anew() -> None:
    with tally.kept() as first:
        threads = [threading.Thread(target=tally.add, args=(10, 1)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        code = "from transforms.machine import tally; tally.add(5, 2); tally.add(5, 2)"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
        assert tally.counted(first) == (210, 24)
    assert not os.path.exists(first)
    with tally.kept() as second:
        assert tally.counted(second) == (0, 0)
        tally.add(1, 0)
        assert tally.counted(second) == (1, 0)
    assert tally.counted(second) == (0, 0)


def test_where_there_is_no_room_for_a_tally_there_is_none(monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    with tally.kept() as counted:
        assert counted is None
        tally.add(1, 0)
