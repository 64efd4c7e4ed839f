"""Where a fine-tuning stands, as one file that is whole whenever the process is killed.

The file is named by the digest of all that decides the run, so that another run's is never taken
for this one's, nor overwritten. It is NumPy's .npz, without pickles: arrays of bytes, each of a
variable whose type and shape are known from elsewhere, and one JSON text.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from transforms import storage
from transforms.errors import UserError, one_line

_NAME = re.compile(r"tuning-[0-9a-f]{16}\.npz")
_STATE = "state"
_MAX_STATE_BYTES = 64 * 2**20

_DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


@dataclasses.dataclass(frozen=True)
class EpochScore:
    """What one epoch gave.

    Attributes:
      epoch: from 1; 0 is before the first.
      loss: the mean over the epoch's images, regularisation included; None for epoch 0.
      regularization: the part of `loss` that is regularisation.
      validation_loss: cross entropy, without smoothing and regularisation.
      validation_accuracy: share of images whose best class is right; where an image may be of
        several classes, share of right answers to whether it is of a class.
    """

    epoch: int
    loss: float | None
    regularization: float | None
    validation_loss: float
    validation_accuracy: float


@dataclasses.dataclass(frozen=True)
class TuningState:
    """How far it has come.

    Attributes:
      step: steps that were done.
      loss_sum, regularization_sum: over the images of this epoch until now.
      loss_images: how many these are.
      scores: of the epochs that are over; the first is of epoch 0.
      skipped: by id, what is wrong with the images that could not be used.
    """

    step: int = 0
    loss_sum: float = 0.0
    regularization_sum: float = 0.0
    loss_images: int = 0
    scores: tuple[EpochScore, ...] = ()
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def best(self) -> EpochScore:
        """The epoch with the lowest validation loss; of several the first."""
        return min(self.scores, key=lambda score: score.validation_loss)


class CheckpointFile:
    """The checkpoint of one run.

    Args:
      directory: where it lies.
      decides: what decides the run: texts and bytes whose digest names the file.
    """

    def __init__(self, directory: str, decides: Iterable[str | bytes]):
        digest = hashlib.sha256()
        for piece in decides:
            data = piece.encode() if isinstance(piece, str) else piece
            digest.update(len(data).to_bytes(8, "little") + data)
        self._directory = directory
        self._name = f"tuning-{digest.hexdigest()[:16]}.npz"
        self.path = storage.join(directory, self._name)

    def of_other_runs(self) -> list[str]:
        """Names of checkpoints of other runs in the same directory."""
        names = storage.list_names(self._directory)
        return [name for name in names if _NAME.fullmatch(name) and name != self._name]

    def remove_unfinished(self) -> None:
        """Removes what this run was writing when it was killed."""
        left = [
            storage.join(self._directory, name)
            for name in storage.list_names(self._directory)
            if name.startswith(storage.TEMPORARY_PREFIX) and self._name in name
        ]
        storage.delete(left)

    def save(self, state: TuningState, arrays: Sequence[np.ndarray]) -> None:
        """Puts a new checkpoint in the place of the one before, in one step."""

        def write(local_path: str) -> None:
            text = json.dumps(dataclasses.asdict(state))
            named: Any = {f"v{at}": _bytes(array) for at, array in enumerate(arrays)}
            named[_STATE] = np.frombuffer(text.encode(), np.uint8)
            with open(local_path, "wb") as file:
                np.savez(file, **named)

        storage.write_atomically(self.path, write)

    def load(self, like: Sequence[np.ndarray]) -> tuple[TuningState, list[np.ndarray]] | None:
        """What `save` was given last; None: nothing.

        Args:
          like: arrays with the types and shapes that are to come.

        Raises:
          UserError: the file is damaged.
        """
        if not storage.exists(self.path):
            return None
        try:
            with storage.open_input(self.path) as file, np.load(file, allow_pickle=False) as found:
                state = _state(found[_STATE])
                arrays = [_like(found[f"v{at}"], array) for at, array in enumerate(like)]
        except _DAMAGED as error:
            raise UserError(
                f"the checkpoint is damaged: {one_line(error)}; delete it to begin anew",
                subject=self.path,
            ) from error
        return state, arrays


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _like(stored: np.ndarray, like: np.ndarray) -> np.ndarray:
    if stored.dtype != np.uint8 or stored.size != like.nbytes:
        raise ValueError(f"a variable has {stored.size} bytes, not {like.nbytes}")
    return stored.view(like.dtype).reshape(like.shape)


def _state(stored: np.ndarray) -> TuningState:
    if stored.dtype != np.uint8 or stored.size > _MAX_STATE_BYTES:
        raise ValueError("no state in it")
    found: dict[str, Any] = json.loads(stored.tobytes())
    scores = tuple(EpochScore(**score) for score in found.pop("scores"))
    return TuningState(scores=scores, **found)
