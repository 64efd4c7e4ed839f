"""The sockets that processes listen at, as the kernel tells it."""

from __future__ import annotations

import contextlib
import os
import pathlib

_LISTENS = "0A"
_LOOPBACK = ("7F", "00000000000000000000000001000000")


def listening(pid: int) -> list[str]:
    """Addresses, in hexadecimal digits, of the TCP sockets that a process has open to listen at."""
    own = set()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed by now
            own.add(os.readlink(entry))
    found = []
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == _LISTENS and f"socket:[{words[9]}]" in own:
                found.append(words[1])
    return found


def is_loopback(address: str) -> bool:
    """Whether an address of `listening` can be reached from this machine alone.

    >>> is_loopback("0100007F:9FC9"), is_loopback("00000000000000000000000000000000:9FC9")
    (True, False)
    """
    host = address.partition(":")[0]
    return host[-2:] == _LOOPBACK[0] if len(host) == 8 else host == _LOOPBACK[1]
