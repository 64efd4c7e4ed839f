"""The journal of a change: once it is written, the change is decided."""

from __future__ import annotations

import dataclasses
import json

from pipeline.output.directory import Output
from transforms.dataset.layout import JOURNAL_FILE
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
    path = output.path(JOURNAL_FILE)
    return parse_journal(path, conditional_writes.read_text(path))


def parse_journal(path: str, stored: StoredText | None) -> Journal | None:
    """What a journal says; None if there is none.

    Raises:
      UserError: it is damaged.
    """
    if stored is None:
        return None
    try:
        found = json.loads(stored.text)
        moves = [(source, target) for source, target in found.pop("moves")]
        return Journal(moves=moves, **found)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: is damaged ({error}); --overwrite starts the output anew"
        ) from error
