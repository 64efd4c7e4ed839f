"""Beam's Prism, which no package carries: built from the Go module proxy, by the Go of a package.

It takes 97 seconds of CPU where nothing of it is there, 4 where Go still has in its own cache what
it has compiled, and none where the binary is kept.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

import apache_beam

# Prism runs no longer for want of optimisation, and is compiled a third faster.
_FAST_TO_BUILD = ("-gcflags=all=-N -l", "-ldflags=-s -w")
_SETTINGS = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}


def prism_binary(cache_dir: pathlib.Path) -> pathlib.Path:
    """The Prism of the Beam that is installed, for `--prism_location`.

    Args:
      cache_dir: where it is kept, made if absent.
    """
    binary = cache_dir.absolute() / f"prism-{apache_beam.__version__}"
    if binary.exists():
        return binary
    cache_dir.mkdir(parents=True, exist_ok=True)
    package = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{apache_beam.__version__}"
    go = pathlib.Path(sys.executable).with_name("go")
    with tempfile.TemporaryDirectory(dir=cache_dir) as work:
        done = subprocess.run(
            [go, "install", *_FAST_TO_BUILD, package],
            env=os.environ | _SETTINGS | {"GOBIN": work},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{package} cannot be built: {done.stderr[-2000:]}"
        os.replace(pathlib.Path(work, "prism"), binary)
    return binary
