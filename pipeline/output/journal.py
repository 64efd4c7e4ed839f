"""The journal of a change: once it is written, the change is decided."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from pipeline.output.directory import Output
from transforms import storage
from transforms.dataset.layout import JOURNAL_FILE, is_of_dataset, is_replaced_in, is_waiting
from transforms.dataset.stored_json import (
    check_kinds,
    is_count,
    is_text,
    list_of,
    parse_object,
)
from transforms.errors import UserError
from transforms.storage import conditional_writes
from transforms.storage.conditional_writes import StoredText


@dataclasses.dataclass(frozen=True)
class Journal:
    """A change that is decided.

    Attributes:
      generation: of the snapshot that the change makes.
      moves: from and to, as paths below the directory; error files before the parts.
      removes: paths below the directory of what is replaced.
      previous: directory below the output that these move to; "" where they are deleted.
    """

    generation: int
    moves: list[tuple[str, str]]
    removes: list[str]
    previous: str = ""


def read_journal(output: Output) -> Journal | None:
    """A change that is decided and not yet at its end; None if there is none.

    Raises:
      UserError: the journal is damaged.
    """
    return stored_journal(output)[1]


def stored_journal(output: Output) -> tuple[StoredText | None, Journal | None]:
    """The journal as it is stored, and what it says.

    Raises:
      UserError: it is damaged, or names what is no file of ours; nothing may be done by it.
    """
    path = output.path(JOURNAL_FILE)
    try:
        stored = conditional_writes.read_text(path)
        return stored, None if stored is None else _parsed(stored.text)
    except (storage.UnusableFileError, ValueError) as error:
        why = error.problem if isinstance(error, storage.UnusableFileError) else error
        raise UserError(
            f"{path}: is damaged ({why}); nothing was done; --overwrite starts the output anew"
        ) from error


def _parsed(text: str) -> Journal:
    found = parse_object(text)
    check_kinds(
        found,
        {"generation": is_count, "moves": list_of(_is_move), "removes": list_of(is_text)},
        {"previous": is_text},
    )
    for strange in _strange(found):
        raise ValueError(f"it names {strange!r}, which is no file of an output")
    moves = [(source, target) for source, target in found["moves"]]
    return Journal(found["generation"], moves, found["removes"], found.get("previous", ""))


def _is_move(found: Any) -> bool:
    return list_of(is_text)(found) and len(found) == 2


def _strange(found: dict[str, Any]) -> Iterator[str]:
    """The names in a journal that no run of this program has written there."""
    for source, target in found["moves"]:
        if not is_of_dataset(target):
            yield target
        if not is_waiting(source) or source.partition("/")[2] != target:
            yield source
    yield from (name for name in found["removes"] if not is_of_dataset(name))
    previous = found.get("previous", "")
    if previous and not is_replaced_in(previous):
        yield previous
