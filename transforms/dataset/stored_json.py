"""JSON that was read from a file which others may have written: what it may hold, and how much.

A kind is a function that says whether a value is as it should be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

Kind = Callable[[Any], bool]

# Bytes of a file; a snapshot has about 120 for each file of the output.
MOST_BYTES = 2**27

# Lists and objects of one file: each takes many times the memory that its text takes.
_MOST_CONTAINERS = 2**20

_LARGEST = 2**63 - 1


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The object that a text is.

    Raises:
      ValueError: it is none, or is nested too deeply or has too many lists in it.

    >>> parse_object('{"generation": 3}')
    {'generation': 3}
    """
    opening = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if sum(map(text.count, opening)) > _MOST_CONTAINERS:  # type: ignore[arg-type]
        raise ValueError(f"it has more than {_MOST_CONTAINERS:,} lists and objects")
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    return found


def check_kinds(
    found: Mapping[str, Any],
    required: Mapping[str, Kind],
    optional: Mapping[str, Kind] | None = None,
) -> None:
    """Checks the values of an object; names that are in neither table are passed over.

    Raises:
      ValueError: one is missing or of another kind; the message names it.

    >>> check_kinds({"rows": "3"}, {"rows": is_count})
    Traceback (most recent call last):
    ...
    ValueError: rows is not as it should be
    """
    for name, kind in required.items():
        if name not in found:
            raise ValueError(f"{name} is missing")
        if not kind(found[name]):
            raise ValueError(f"{name} is not as it should be")
    for name, kind in (optional or {}).items():
        if name in found and not kind(found[name]):
            raise ValueError(f"{name} is not as it should be")


def is_text(found: Any) -> bool:
    """A text."""
    return isinstance(found, str)


def is_line(found: Any) -> bool:
    """A text that is shown as it is: on one line, without control characters."""
    return isinstance(found, str) and found.isprintable()


def is_flag(found: Any) -> bool:
    """True or false."""
    return isinstance(found, bool)


def is_count(found: Any) -> bool:
    """A whole number from 0.

    >>> is_count(0), is_count(True), is_count(-1), is_count(1.0)
    (True, False, False, False)
    """
    return type(found) is int and 0 <= found <= _LARGEST


def is_number(found: Any) -> bool:
    """A number that is finite."""
    return type(found) in (int, float) and abs(found) <= _LARGEST and math.isfinite(found)


def is_object(found: Any) -> bool:
    """An object, whatever is in it."""
    return isinstance(found, dict)


def either(*kinds: Kind) -> Kind:
    """Of one of several kinds."""
    return lambda found: any(kind(found) for kind in kinds)


def is_null(found: Any) -> bool:
    """Nothing."""
    return found is None


def list_of(kind: Kind) -> Kind:
    """A list of values of one kind."""
    return lambda found: isinstance(found, list) and all(map(kind, found))


def object_of(kind: Kind) -> Kind:
    """An object of values of one kind."""
    return lambda found: isinstance(found, dict) and all(map(kind, found.values()))
