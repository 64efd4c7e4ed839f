"""Replaces parts as a whole: all of a change appears, or nothing of it.

The new parts are made beside the output, in `_staging/` and `_copies/`. Then `_publish.json`, the
journal, says which files move in and which go; writing it, one rename, is the commit. Whatever
happens after it, `roll_forward` brings to its end, now or when the next run begins. A reader that
goes by `_snapshot.json` sees the old state until all new files are in place, and then the new one.

Before each step it is looked whether the lease is still held: a launcher that slept meanwhile may
find another run at work, which has brought the change to its end itself.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import time
from collections.abc import Callable, Collection

from pipeline.output.directory import Output
from pipeline.output.journal import Journal, read_journal, stored_journal
from pipeline.output.previous import Keeping
from pipeline.output.staging import staging_of
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.layout import (
    COPIES_DIRECTORY,
    ERRORS_DIRECTORY,
    JOURNAL_FILE,
    SNAPSHOT_FILE,
    STAGING_DIRECTORY,
    is_errors_name,
    is_part_name,
)
from transforms.dataset.own_files import refuse_links
from transforms.dataset.replaced import replaced_in
from transforms.dataset.rewriting import copy_parts
from transforms.errors import UserError
from transforms.storage import conditional_writes, faults

_COPY_THREADS = 2

# Files that move between two looks at the lease; their directory is made durable once.
_MOVES_AT_ONCE = 16

# How old the last look at the lease may be when a step begins.
_LOOK_SECONDS = 1.0

# Goes on while the machine sleeps, where there is such a clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

# Raises if the output is another run's by now.
Look = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Change:
    """What is to be published.

    Attributes:
      added: directories below the output and their parts that move in.
      stays: the parts of the output that stay.
      removes: paths below the directory of what goes.
    """

    added: list[Output]
    stays: Output
    removes: list[str]

    @property
    def changes(self) -> bool:
        """Whether there is anything to publish."""
        return bool(self.removes or any(output.parts for output in self.added))

    @property
    def images(self) -> int:
        """Rows and error rows of the output as it will be."""
        return sum(output.rows + output.errors for output in (self.stays, *self.added))


def prepare(output: Output, drop: dict[str, set[str]], drop_staged: dict[str, set[str]]) -> Change:
    """Copies each part that loses some of its rows, without them.

    Args:
      output: with all its parts.
      drop: ids to take out of each of its parts, by name.
      drop_staged: the same for the parts in the staging directory.
    """
    staged = staging_of(output).refresh()
    copies = Output(output.path(COPIES_DIRECTORY))
    storage.delete([copies.directory])
    generation = str(snapshot.read_snapshot(output.directory).generation)
    work = _losing_some(output, drop) + _losing_some(staged, drop_staged)
    with concurrent.futures.ThreadPoolExecutor(_COPY_THREADS) as pool:
        for _ in pool.map(
            lambda item: copy_parts([item[0]], copies.directory, item[1], generation), work
        ):
            pass
    for name in drop_staged:
        staged.parts.pop(name, None)
    return replacing(output, [staged, copies.refresh()], drop)


def _losing_some(output: Output, drop: dict[str, set[str]]) -> list[tuple[str, set[str]]]:
    """Paths of parts of which something is left, and the ids that they lose."""
    sizes = {name: part.rows + part.errors for name, part in output.parts.items()}
    return [(output.path(name), ids) for name, ids in drop.items() if len(ids) < sizes[name]]


def replacing(output: Output, added: list[Output], names: Collection[str]) -> Change:
    """The change that puts parts in place of those of the given names."""
    removed = Output(output.directory, {name: output.parts[name] for name in sorted(names)})
    stays = {name: part for name, part in output.parts.items() if name not in names}
    return Change(added, Output(output.directory, stays), removed.files)


def replacing_all(output: Output, drop_staged: dict[str, set[str]]) -> Change:
    """The change that puts what is staged in place of all that is there, readable or not."""
    added = prepare(Output(output.directory), {}, drop_staged).added
    removes = output.all_names()
    errors = storage.list_names(output.path(ERRORS_DIRECTORY))
    removes += [f"{ERRORS_DIRECTORY}/{name}" for name in errors if is_errors_name(name)]
    return Change(added, Output(output.directory), removes)


def publish(output: Output, change: Change, keeping: Keeping, look: Look) -> None:
    """Makes the change the new state of the output.

    Killed before the journal is written it leaves the state before, after that the state after it.

    Args:
      output: the directory.
      change: what is decided.
      keeping: how long what goes stays for those who read it.
      look: raises if the output is another run's by now.
    """
    moves: list[tuple[str, str]] = []
    for added in change.added:
        directory = added.directory.removeprefix(output.directory.rstrip("/") + "/")
        files = sorted(added.files, key=is_part_name)
        moves += [(f"{directory}/{name}", name) for name in files]
    arriving = {target for _, target in moves}
    removes = [name for name in change.removes if name not in arriving]
    generation = snapshot.read_snapshot(output.directory).generation
    kept_in = "" if keeping.nothing else replaced_in(generation, time.time())
    journal = Journal(generation + 1, moves, removes, kept_in)
    look()
    faults.reached("before_journal")
    text = json.dumps(dataclasses.asdict(journal)) + "\n"
    if conditional_writes.write_if_unchanged(output.path(JOURNAL_FILE), text, None) is None:
        raise RuntimeError(f"{output.path(JOURNAL_FILE)}: another run has begun to publish")
    faults.reached("after_journal")
    if not roll_forward(output, look):
        raise RuntimeError(
            f"{output.directory}: what was to be published is not there any more; nothing was "
            "published; run the same command again"
        )


def roll_forward(output: Output, look: Look) -> bool:
    """Brings a change that is decided to its end; returns whether there was one.

    Args:
      output: the directory.
      look: raises if the output is another run's by now.

    Raises:
      UserError: the journal is damaged, or names what is no file of ours.
    """
    refuse_links(output.directory)
    path = output.path(JOURNAL_FILE)
    stored, journal = stored_journal(output)
    if stored is None or journal is None:
        return False
    look = _now_and_then(look)
    look()
    if snapshot.read_snapshot(output.directory).generation < journal.generation:
        if not _is_whole(output, journal):
            conditional_writes.delete_if_unchanged(path, stored)
            return False
        _move(output, journal.moves, look)
        faults.reached("after_moves")
        state = Output(output.directory).refresh(without=set(journal.removes))
        snapshot.write_snapshot(output.directory, journal.generation, state.files, look)
    faults.reached("after_snapshot")
    readable = snapshot.read_snapshot(output.directory).checksums
    removes = [name for name in journal.removes if name not in readable]
    if journal.previous:
        there = storage.list_files(output.directory)  # a damaged part may have been deleted by hand
        replaced = [name for name in removes if name in there]
        _move(output, [(name, f"{journal.previous}/{name}") for name in replaced], look)
    else:
        for name in removes:
            look()
            storage.delete([output.path(name)])
    for name in (STAGING_DIRECTORY, COPIES_DIRECTORY):
        look()
        storage.delete([output.path(name)])
    faults.reached("after_removes")
    look()
    conditional_writes.delete_if_unchanged(path, stored)
    return True


def discard_damaged(output: Output) -> None:
    """Deletes a journal or snapshot that says nothing: for who is about to replace all there is."""
    try:
        read_journal(output)
    except UserError:
        storage.delete([output.path(JOURNAL_FILE)])
    try:
        snapshot.read_snapshot(output.directory)
    except ValueError:
        storage.delete([output.path(SNAPSHOT_FILE)])


def _is_whole(output: Output, journal: Journal) -> bool:
    """Whether all that is to move in is there, at its old place or its new one.

    It is not where a launcher slept between its last look at the lease and writing the journal, and
    another run has cleared away what it had staged: then nothing of the journal may be done.
    """
    there = storage.list_files(output.directory)
    return all(source in there or target in there for source, target in journal.moves)


def _move(output: Output, moves: list[tuple[str, str]], look: Look) -> None:
    for first in range(0, len(moves), _MOVES_AT_ONCE):
        look()
        some = moves[first : first + _MOVES_AT_ONCE]
        storage.move([(output.path(source), output.path(target)) for source, target in some])


def _now_and_then(look: Look) -> Look:
    """Looks if the last time is too long ago, whatever this process did meanwhile: also slept."""
    looked = -float("inf")

    def look_if_late() -> None:
        nonlocal looked
        now = time.clock_gettime(_CLOCK)
        if now - looked >= _LOOK_SECONDS:
            look()
            looked = now

    return look_if_late
