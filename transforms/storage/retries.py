"""Calling again after what passes: timeouts, lost connections, servers that are busy.

What passes and what does not is the table in `causes`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from transforms.storage.causes import is_transient

ATTEMPTS = 4

# A part or a snapshot that cannot be written costs all that was computed for it: about a minute.
WRITE_ATTEMPTS = 8

# The first wait is up to this long, each further one up to twice as long ("full jitter": workers
# that failed together do not come back together).
FIRST_WAIT_SECONDS = 0.5

T = TypeVar("T")


def retrying(call: Callable[[], T], attempts: int | None = None) -> T:
    """What `call` returns, called again after transient errors.

    Args:
      call: what may fail.
      attempts: how many; `ATTEMPTS` by default.

    Raises:
      Exception: the error of the last attempt, or the first one that is not transient.
    """
    for attempt in range(1, attempts or ATTEMPTS):
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
        time.sleep(random.uniform(0, FIRST_WAIT_SECONDS * 2 ** (attempt - 1)))
    return call()
