"""What is computed and not yet published: parts that will replace others, beside the output."""

from __future__ import annotations

import contextlib

from pipeline.output.directory import Output
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.layout import ERRORS_DIRECTORY, STAGING_DIRECTORY


def staging_of(output: Output) -> Output:
    """Where parts that replace others lie until they are published; survives a killed run."""
    return Output(output.path(STAGING_DIRECTORY))


def drop_half_deleted(output: Output) -> None:
    """Deletes parts that no reader has yet and whose error rows are gone.

    A run that was killed while it deleted what is staged leaves such, and a worker that slept
    between its look at the lease and its commit, when another run has cleared its error rows away.

    Args:
      output: the directory; what is damaged in it stays, and is told later.
    """
    published = snapshot.read_snapshot(output.directory).checksums
    for parts, kept in ((output, published), (staging_of(output), {})):
        with contextlib.suppress(OSError, ValueError):
            parts.refresh()
        names = {None, *storage.list_names(parts.path(ERRORS_DIRECTORY))}
        lacking = [name for name, part in parts.parts.items() if part.errors_file not in names]
        for name in lacking:
            if name not in kept:
                storage.delete([parts.path(name)])
                del parts.parts[name]


def delete_useless(staged: Output, drop: dict[str, set[str]]) -> None:
    """Deletes staged parts all of whose images are computed anew: the new ones have their names.

    Args:
      staged: with all its parts.
      drop: ids that do not count, by the name of their part; those that are deleted go from it.
    """
    for name in list(drop):
        part = staged.parts[name]
        if len(drop[name]) == part.rows + part.errors:
            storage.delete([staged.path(name)])
            del staged.parts[name], drop[name]
