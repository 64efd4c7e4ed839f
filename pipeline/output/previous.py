"""What earlier states of an output held: kept for a while, for those who still read them.

What a published change replaces moves to `_previous/<generation>-<seconds>/`: the generation of the
last snapshot that named it, and when it was replaced, in seconds since the epoch. A training epoch
that has opened that snapshot finds the files there (`transforms.dataset.replaced`).
"""

from __future__ import annotations

import dataclasses
import time

from pipeline.output.directory import Output
from transforms import storage
from transforms.dataset.layout import PREVIOUS_DIRECTORY, replaced_when


@dataclasses.dataclass(frozen=True)
class Keeping:
    """How long what was replaced stays: as long as either says.

    Attributes:
      snapshots: for so many further generations.
      hours: after it was replaced.
    """

    snapshots: int = 1
    hours: float = 0.0

    @property
    def nothing(self) -> bool:
        """Whether it goes at once."""
        return self.snapshots == 0 and self.hours == 0


def clear(output: Output, generation: int, keeping: Keeping) -> None:
    """Deletes what has been kept long enough.

    Args:
      output: the directory.
      generation: of its snapshot now.
      keeping: what stays.
    """
    now = time.time()
    for name in storage.list_names(output.path(PREVIOUS_DIRECTORY)):
        when = replaced_when(name)
        if when is None:
            continue  # not ours
        of, seconds = when
        recent = generation - of <= keeping.snapshots
        if not recent and now - seconds >= keeping.hours * 3600:
            storage.delete([output.path(PREVIOUS_DIRECTORY, name)])
    storage.remove_if_empty(output.path(PREVIOUS_DIRECTORY))
