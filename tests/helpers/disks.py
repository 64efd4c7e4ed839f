"""A disk that is too small."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import subprocess
from collections.abc import Iterator

from tests.helpers.commands import PATIENCE_SECONDS

_BALLAST = "ballast"


@contextlib.contextmanager
def small_disk(mount_point: pathlib.Path, size: int) -> Iterator[pathlib.Path]:
    """A tmpfs of `size` bytes.

    It lives in the mount namespace of a process of its own. So it needs no root, and it is gone
    when that process ends, which it does even if the tests are killed.
    """
    mount_point.mkdir()
    script = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo mounted && read _'
    with subprocess.Popen(
        [
            *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"),
            *(str(size), str(mount_point)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert select.select([holder.stdout], [], [], PATIENCE_SECONDS)[0]
        assert holder.stdout.readline() == "mounted\n", "no tmpfs can be mounted here"
        yield pathlib.Path(f"/proc/{holder.pid}/root{mount_point}")


def leave_free(disk: pathlib.Path, size: int) -> None:
    """Fills the disk with ballast, so that about `size` bytes are free."""
    free_disk(disk)
    status = os.statvfs(disk)
    (disk / _BALLAST).write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - size)))


def free_disk(disk: pathlib.Path) -> None:
    """Takes the ballast away."""
    (disk / _BALLAST).unlink(missing_ok=True)
