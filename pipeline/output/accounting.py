"""Every image is accounted for: images matched = rows + error rows, and each id once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.output.directory import Output
from transforms.shards import ShardPointer


class AccountingError(RuntimeError):
    """Images were matched that are neither rows nor error rows. Must never happen."""


class DuplicateIdsError(RuntimeError):
    """An id is in the output twice. Must never happen."""


def check_shards(output: Output, pointers: Sequence[ShardPointer]) -> None:
    """Shard by shard.

    Raises:
      AccountingError: a part is missing, or does not account for all images of its shard.
    """
    accounted = {part.shard: part.rows + part.errors for part in output.parts.values()}
    wrong = [pointer for pointer in pointers if accounted.get(pointer.name) != pointer.size]
    if wrong:
        raise AccountingError(
            f"{len(wrong)} of {len(pointers)} shards are not accounted for, such as "
            f"{wrong[0].name}: {accounted.get(wrong[0].name)} of {wrong[0].size} images; run the "
            "same command again"
        )


def check_total(output: Output, matched: int, kept: int) -> None:
    """In the whole output, after a sync.

    Args:
      output: with all its parts.
      matched: images that the inputs hold.
      kept: rows and error rows of images that they do not hold and that stay.

    Raises:
      AccountingError: there are more or fewer.
    """
    total = output.rows + output.errors
    if total != matched + kept:
        raise AccountingError(
            f"{output.directory} has {total} rows and error rows for {matched} images; run "
            "the same command again"
        )


def check_ids_unique(outputs: Sequence[Output]) -> None:
    """Each id once, in the rows and error rows of all the given directories of parts.

    Raises:
      DuplicateIdsError: two runs must have written at the same time.
    """
    repeated = _repeated_hashes(outputs)
    seen: set[str] = set()
    for output in outputs if repeated else []:
        for part in output.ids():
            for image_id in part.ids():
                if image_id in seen:
                    raise DuplicateIdsError(
                        f"{output.path(part.name)}: id {image_id!r} is in another part, too: two "
                        "runs must have written at the same time; delete this part, and the same "
                        "command computes again what is then missing"
                    )
                if hash(image_id) in repeated:
                    seen.add(image_id)


def _repeated_hashes(outputs: Sequence[Output]) -> set[int]:
    """Hashes that ids share, by chance or because they are the same: of 8 bytes an id."""
    hashes = [np.empty(0, np.int64)]
    for output in outputs:
        hashes += [np.fromiter(map(hash, part.ids()), np.int64) for part in output.ids()]
    ordered = np.sort(np.concatenate(hashes))
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
