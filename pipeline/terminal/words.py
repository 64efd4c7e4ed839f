"""Numbers and times as people read them."""

from __future__ import annotations

import time


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "part"), count(2000, "row")
    ('1 part', '2,000 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(59), duration(3599), duration(100_000)
    ('59 s', '59 min', '27 h 46 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def ago(since: float) -> str:
    """How long ago a time was, in seconds since the epoch."""
    return f"{duration(max(0.0, time.time() - since))} ago"


def byte_count(count: int) -> str:
    """A number of bytes for people.

    >>> byte_count(13_600_000)
    '13.6 MB'
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
