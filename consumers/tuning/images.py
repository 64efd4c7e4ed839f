"""Image files with their classes, as batches: the pipeline's own pixels, in an order by seed.

What reads and decodes is what the pipeline reads and decodes with, in the same threads, a few
batches ahead of the model and within the same share of the memory. An epoch is a shard whose refs
are in the epoch's order; so an image that cannot be used costs that image alone here, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from transforms.errors import ErrorRow, Parameter, UserError
from transforms.images.read_ahead import decode_shard
from transforms.images.spec import ImageSpec
from transforms.refs import ImageRef
from transforms.shards import Shard


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image file and what is to be seen on it.

    Attributes:
      ref: the file.
      target: the position of its class; or, where an image may be of several classes, for each
        class whether it is one of them.
    """

    ref: ImageRef
    target: int | tuple[bool, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledBatch:
    """What one step sees.

    Attributes:
      images: [B, H, W, 3] RGB, float32 in [0, 1] or uint8; B may be less than the batch size, and
        0, where images were skipped.
      targets: float32 [B, C], 1 for each class that an image is of, else 0.
      rows: positions of the images in the list that they come from.
      positions: positions of the images in the batch, as if none had been skipped.
      skipped: images that could not be used.
    """

    images: np.ndarray
    targets: np.ndarray
    rows: tuple[int, ...]
    positions: tuple[int, ...]
    skipped: tuple[ErrorRow, ...]


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of images in an epoch: a permutation, int64 [count], of these three alone.

    >>> epoch_order(5, seed=0, epoch=1).tolist() == epoch_order(5, seed=0, epoch=1).tolist()
    True
    """
    return np.random.default_rng([seed, epoch]).permutation(count)


def read_labelled(
    images: Sequence[LabelledImage],
    order: np.ndarray,
    classes: int,
    spec: ImageSpec,
    batch_size: int,
) -> Iterator[LabelledBatch]:
    """Batches of images, decoded ahead of whoever asks for them.

    Args:
      images: files, with unique ids.
      order: int64 [n], positions in `images`, in the order in which they are to come.
      classes: how many there are.
      spec: size, pixels and limits.
      batch_size: images in a batch, those that are skipped included; the last has what is left.

    Raises:
      UserError: an image is a record of a container, or the model decodes images itself.
    """
    if spec.kind != "pixels":
        raise UserError("fine-tuning needs pixels", subject=Parameter("kind", spec.kind))
    refs = tuple(images[row].ref for row in order)
    if record := next((ref for ref in refs if ref.is_record), None):
        raise UserError("a record of a file; fine-tuning reads image files", subject=record.id)
    if not refs:
        return
    for batch in decode_shard(Shard(refs), spec, batch_size):
        first = batch.place.start
        at = {refs[first + position].id: position for position in range(batch.place.size)}
        positions = tuple(at[row.ref.id] for row in batch.rows)
        rows = tuple(int(order[first + position]) for position in positions)
        targets = target_rows([images[row].target for row in rows], classes)
        yield LabelledBatch(batch.images, targets, rows, positions, batch.errors)


def target_rows(targets: Sequence[int | tuple[bool, ...]], classes: int) -> np.ndarray:
    """float32 [n, classes]: 1 for each class that an image is of.

    >>> target_rows([1, (True, False)], 2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    rows = np.zeros((len(targets), classes), np.float32)
    for row, target in zip(rows, targets, strict=True):
        if isinstance(target, tuple):
            row[:] = target
        else:
            row[target] = 1
    return rows
