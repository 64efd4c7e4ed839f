"""Replaces parts as a whole: all of a change appears, or nothing of it.

The new parts are made beside the output, in `_staging/` and `_copies/`. Then `_publish.json`, the
journal, says which files move in and which go; writing it, one rename, is the commit. Whatever
happens after it, `roll_forward` brings to its end, now or when the next run begins. A reader that
goes by `_snapshot.json` sees the old state until all new files are in place, and then the new one.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json

from pipeline.output.directory import Output
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.layout import (
    COPIES_DIRECTORY,
    JOURNAL_FILE,
    STAGING_DIRECTORY,
    is_part_name,
)
from transforms.dataset.rewriting import copy_parts
from transforms.errors import UserError
from transforms.storage import faults

_COPY_THREADS = 2


@dataclasses.dataclass(frozen=True)
class Journal:
    """A change that is decided.

    Attributes:
      generation: of the snapshot that the change makes.
      moves: from and to, as paths below the directory; error files before the parts.
      removes: paths below the directory of what is replaced.
    """

    generation: int
    moves: list[tuple[str, str]]
    removes: list[str]


@dataclasses.dataclass(frozen=True)
class Change:
    """What is to be published.

    Attributes:
      added: directories below the output and their parts that move in.
      removed: names of the output's parts that go.
    """

    added: list[Output]
    removed: list[str]


def staging(output: Output) -> Output:
    """Where parts that replace others lie until they are published; survives a killed run."""
    return Output(output.path(STAGING_DIRECTORY))


def prepare(output: Output, drop: dict[str, set[str]], drop_staged: dict[str, set[str]]) -> Change:
    """Copies each part that loses some of its rows, without them.

    Args:
      output: with all its parts.
      drop: ids to take out of each of its parts, by name.
      drop_staged: the same for the parts in the staging directory.
    """
    staged = staging(output).refresh()
    copies = Output(output.path(COPIES_DIRECTORY))
    storage.delete([copies.directory])
    generation = str(snapshot.read_snapshot(output.directory).generation)
    work = [(output.path(name), ids) for name, ids in drop.items()]
    work += [(staged.path(name), ids) for name, ids in drop_staged.items()]
    with concurrent.futures.ThreadPoolExecutor(_COPY_THREADS) as pool:
        for _ in pool.map(
            lambda item: copy_parts([item[0]], copies.directory, item[1], generation), work
        ):
            pass
    for name in drop_staged:
        staged.parts.pop(name, None)
    return Change([staged, copies.refresh()], sorted(drop))


def publish(output: Output, change: Change) -> None:
    """Makes the change the new state of the output.

    Killed before the journal is written it leaves the state before, after that the state after it.
    """
    moves: list[tuple[str, str]] = []
    for added in change.added:
        directory = added.directory.removeprefix(output.directory.rstrip("/") + "/")
        files = sorted(added.files, key=is_part_name)
        moves += [(f"{directory}/{name}", name) for name in files]
    removed = Output(output.directory, {name: output.parts[name] for name in change.removed})
    generation = snapshot.read_snapshot(output.directory).generation + 1
    journal = Journal(generation, moves, removed.files)
    faults.reached("before_journal")
    storage.write_text(output.path(JOURNAL_FILE), json.dumps(dataclasses.asdict(journal)) + "\n")
    faults.reached("after_journal")
    roll_forward(output)


def roll_forward(output: Output) -> bool:
    """Brings a change that is decided to its end; returns whether there was one.

    Raises:
      UserError: the journal is damaged.
    """
    journal = read_journal(output)
    if journal is None:
        return False
    storage.move([(output.path(source), output.path(to)) for source, to in journal.moves])
    faults.reached("after_moves")
    removed = set(journal.removes)
    state = Output(output.directory).refresh()
    state.parts = {name: part for name, part in state.parts.items() if name not in removed}
    if snapshot.read_snapshot(output.directory).generation < journal.generation:
        snapshot.write_snapshot(output.directory, journal.generation, state.files)
    faults.reached("after_snapshot")
    storage.delete([output.path(name) for name in journal.removes])
    storage.delete([output.path(name) for name in (STAGING_DIRECTORY, COPIES_DIRECTORY)])
    faults.reached("after_removes")
    storage.delete([output.path(JOURNAL_FILE)])
    return True


def read_journal(output: Output) -> Journal | None:
    """A change that is decided and not yet at its end; None if there is none.

    Raises:
      UserError: the journal is damaged.
    """
    path = output.path(JOURNAL_FILE)
    if not storage.exists(path):
        return None
    try:
        with storage.open_input(path) as file:
            found = json.loads(file.read())
        moves = [(source, target) for source, target in found.pop("moves")]
        return Journal(moves=moves, **found)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: is damaged ({error}); --overwrite starts the output anew"
        ) from error
