"""Beam's job server: apart from the launcher's Ctrl-C, and gone when the launcher is."""

from __future__ import annotations

import os
import signal
import sys

import psutil
from apache_beam.utils import subprocess_server

from runners import job_servers
from tests.helpers.commands import PATIENCE_SECONDS, start

SLEEPS = [sys.executable, "-S", "-c", "print('there', flush=True); import time; time.sleep(999)"]


def test_what_is_started_is_apart_and_our_handler_stays():
    before = signal.getsignal(signal.SIGINT)
    with job_servers.outlive_ctrl_c():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Beam puts its own
        server = subprocess_server.subprocess.Popen(
            SLEEPS, stdout=subprocess_server.subprocess.PIPE
        )
    assert signal.getsignal(signal.SIGINT) is before
    try:
        assert server.stdout.readline() == b"there\n"
        assert os.getpgid(server.pid) == server.pid
    finally:
        server.kill()
        server.communicate(timeout=PATIENCE_SECONDS)


def test_it_ends_with_its_launcher():
    program = (
        "import sys; from apache_beam.utils import subprocess_server; "
        "from runners import job_servers\n"
        "with job_servers.outlive_ctrl_c():\n"
        f"    server = subprocess_server.subprocess.Popen({SLEEPS!r}, stdout=-1)\n"
        "server.stdout.readline(); print(server.pid, flush=True); sys.stdin.read()"
    )
    launcher = start([sys.executable, "-c", program], stdin=-1, stdout=-1)
    server = psutil.Process(int(launcher.stdout.readline()))
    launcher.kill()
    launcher.communicate(timeout=PATIENCE_SECONDS)
    assert psutil.wait_procs([server], timeout=PATIENCE_SECONDS)[1] == []
