"""Places where a test may have this process killed, as a power cut would.

`BEAM_IMAGE_FEATURES_KILL_AT=before_rename:3` kills the process with SIGKILL when it comes to
`reached("before_rename")` for the third time. Nothing else reads the variable.
"""

from __future__ import annotations

import collections
import os
import signal
import threading

VARIABLE = "BEAM_IMAGE_FEATURES_KILL_AT"

_lock = threading.Lock()
_passed: collections.Counter[str] = collections.Counter()


def reached(place: str) -> None:
    """Called where the order of steps matters: what lies on disk here must be a usable state."""
    wanted, _, times = os.environ.get(VARIABLE, "").partition(":")
    if wanted != place:
        return
    with _lock:
        _passed[place] += 1
        if _passed[place] == int(times or 1):
            os.kill(os.getpid(), signal.SIGKILL)
