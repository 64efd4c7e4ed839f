"""How long rows that are replaced stay on disk: options that `run` and `compact` share."""

from __future__ import annotations

from typing import Any

from pipeline.options import types


def add_keeping(group: Any) -> None:
    """Adds `--keep_snapshots` and `--keep_hours` to a parser or a group of one."""
    group.add_argument(
        "--keep_snapshots",
        type=types.natural,
        default=1,
        metavar="N",
        help="what is replaced stays on disk, for those who read it, until there are so many "
        "newer snapshots (default: %(default)s)",
    )
    group.add_argument(
        "--keep_hours",
        type=types.hours,
        default=0.0,
        metavar="H",
        help="and at least so long (default: %(default)s)",
    )
