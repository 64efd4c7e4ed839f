"""A full disk, told from a message. Imports no Beam, before which the logs are set up."""

from __future__ import annotations

import errno
import os

_IS_FULL = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]


def disk_is_full(text: str) -> bool:
    """Whether a message is about a full disk: what workers raise, Beam hands on as text.

    >>> disk_is_full("OSError: [Errno 28] No space left on device [while running 'Commit']")
    True
    """
    return any(message in text for message in _IS_FULL)
