"""Every image is accounted for: images matched = rows + error rows, and each id once.

What a run does to its output is judged here before readers see it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from pipeline.output.directory import Output
from pipeline.output.publish import Change
from transforms.errors import was_read
from transforms.refs import Unreadable
from transforms.shards import ShardPointer


class AccountingError(RuntimeError):
    """Images were matched that are neither rows nor error rows. Must never happen."""


class DuplicateIdsError(RuntimeError):
    """An id is in the output twice. Must never happen."""


@dataclasses.dataclass(frozen=True)
class Tried:
    """The images that were tried since the state that readers have was published.

    Attributes:
      images: how many; without those that were error rows before.
      failed: of these, how many are error rows now.
    """

    images: int
    failed: int

    @property
    def error_rate(self) -> float:
        """Share of the images that failed, 0 to 1."""
        return self.failed / max(1, self.images)


def count_tried(
    output: Output,
    staged: Output,
    published: Collection[str],
    drop: Mapping[str, set[str]],
    failed_before: Collection[str],
    unreadable: Sequence[Unreadable] = (),
) -> Tried:
    """Counts, by id, what is not published yet: of this run and of interrupted ones before it.

    Args:
      output, staged: with all their parts.
      published: names of the parts of the output that readers have.
      drop: ids that do not count, by the name of their part, of both.
      failed_before: ids of published error rows, whose images were tried again.
      unreadable: containers with images that cannot be found: they count as about so many as there
        are, and not as the error rows that stand for them.
    """
    new = {name: part for name, part in output.parts.items() if name not in published}
    images = failed = 0
    containers = {container.uri: container for container in unreadable}
    tried: set[str] = set()  # of the containers
    for parts in (Output(output.directory, new), staged):
        images += parts.rows + parts.errors
        images -= sum(len(drop.get(name, ())) for name in parts.parts)
        for name, table in parts.error_rows(["id", "uri"]):
            uris = dict(zip(table["id"].to_pylist(), table["uri"].to_pylist(), strict=True))
            ids = (uris.keys() - drop.get(name, set())).difference(failed_before)
            failed += len(ids)
            tried |= {uris[image_id] for image_id in ids} & containers.keys()
    lost = sum(containers[uri].images - containers[uri].places for uri in tried)
    return Tried(images - len(failed_before) + lost, failed + lost)


def find_unread(
    staged: Output, drop: Mapping[str, set[str]], rows: Collection[str]
) -> dict[str, set[str]]:
    """Ids of images that could not be read now and have a row or error row, by their staged part.

    Args:
      staged: parts that are to replace others.
      drop: ids that do not count, by the name of their staged part.
      rows: ids of the rows and error rows that were to be replaced.
    """
    unread: dict[str, set[str]] = {}
    for name, table in staged.error_rows(["id", "stage", "error_type"]):
        columns = (table[column].to_pylist() for column in table.column_names)
        ids = {
            image_id
            for image_id, stage, error_type in zip(*columns, strict=True)
            if image_id in rows and not was_read(stage, error_type)
        }
        if ids := ids - drop.get(name, set()):
            unread[name] = ids
    return unread


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


def check_change(output: Output, change: Change, expected: int | None) -> None:
    """What is about to be published.

    Args:
      output: the directory.
      change: made of all its parts and of what replaces some.
      expected: rows and error rows that there must be; None where that is not known.

    Raises:
      AccountingError: there would be more or fewer.
      DuplicateIdsError: an id would be there twice.
    """
    if expected is not None and change.images != expected:
        raise AccountingError(
            f"{output.directory}: would have {change.images} rows and error rows for {expected} "
            "images; nothing was published; run the same command again"
        )
    check_ids_unique([change.stays, *change.added])


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
