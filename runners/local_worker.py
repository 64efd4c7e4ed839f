"""A worker process of `--direct_running_mode multi_processing`: Beam's, ended with its launcher.

Beam's own worker goes on for a while after its launcher was killed, and prints a traceback for each
of its threads at Ctrl-C, which the terminal sends to it as well.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time

from runners.workers_here import SOCKET_DIRECTORY

_POLL_SECONDS = 0.2


def main() -> None:
    """Runs Beam's worker until it is done or its launcher is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher takes it, and ends the workers
    launcher = os.getppid()
    threading.Thread(target=_end_with, args=(launcher,), name="launcher", daemon=True).start()
    from apache_beam.runners.worker import sdk_worker_main

    from runners import worker_errors
    from transforms.storage.secrets import is_secret_name, keep_secret

    for name, value in json.loads(os.environ.get("PIPELINE_OPTIONS", "{}")).items():
        if isinstance(value, str) and is_secret_name(name.removesuffix(":v1")):
            keep_secret(value)
    worker_errors.do_not_print()
    code = 1  # Beam has logged why
    try:
        sdk_worker_main.main(sys.argv)
        code = 0
    finally:
        os._exit(code)  # its launcher waits for it; threads that still read would hold it up


def _end_with(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_POLL_SECONDS)
    if SOCKET_DIRECTORY in os.environ:  # it was killed, and left it
        shutil.rmtree(os.environ[SOCKET_DIRECTORY], ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main()
