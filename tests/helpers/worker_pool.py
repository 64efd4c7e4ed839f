"""A worker machine: a pool of Beam's workers that sees the network, and nothing of the launcher.

`python -m tests.helpers.worker_pool` is the pool itself, in a mount namespace of its own.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import subprocess
import sys
from collections.abc import Iterator

from tests.helpers.commands import PATIENCE_SECONDS, ROOT

# An empty filesystem lies over what is hidden, for this process and its children only.
_HIDE_AND_BECOME = 'mount -t tmpfs tmpfs "$1" && shift && exec "$@"'


@contextlib.contextmanager
def worker_pool(hidden: pathlib.Path, home: pathlib.Path) -> Iterator[str]:
    """Starts a pool, one process, for jobs with `--environment_type=EXTERNAL`.

    Args:
      hidden: a directory that is empty there.
      home: its home directory, with a cache of its own.

    Yields:
      its address, for `--environment_config`.
    """
    home.mkdir()
    environment = os.environ | {
        "HOME": str(home),
        "BEAM_IMAGE_FEATURES_CACHE": str(home / "cache"),
    }
    with subprocess.Popen(
        [
            *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _HIDE_AND_BECOME),
            *("sh", str(hidden), sys.executable, "-m", "tests.helpers.worker_pool"),
        ],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as pool:
        assert pool.stdout is not None
        assert select.select([pool.stdout], [], [], PATIENCE_SECONDS)[0]
        address = pool.stdout.readline().strip()
        assert address, "no mount namespace can be made here, or the pool does not start"
        try:
            yield address
        finally:
            pool.kill()


def main() -> None:
    """Serves until stdin is closed, which it is when the tests end in whatever way."""
    from apache_beam.internal.gcp import auth
    from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

    from transforms.machine.tensorflow_import import import_tensorflow

    auth._Credentials._credentials_init = True  # anonymously, without looking for credentials
    import_tensorflow()
    address, _ = BeamFnExternalWorkerPoolServicer.start()
    print(address, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
