"""What every kind of input gives: refs for a file, and for a ref the encoded image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from transforms.batches import ImageWarning
from transforms.refs import ImageRef


class ListedFile(NamedTuple):
    """What was seen of one file.

    Attributes:
      refs: one for each image, in order, and one for each place where images cannot be found.
      lost: bytes in which there are images that cannot be found; None: all were.
    """

    refs: list[ImageRef]
    lost: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedImage:
    """What was read of one ref.

    Attributes:
      data: the encoded image.
      version: that it had.
      kept: values of the kept columns.
      warnings: of values that did not fit.
    """

    data: bytes
    version: str
    kept: tuple[object, ...] = ()
    warnings: tuple[ImageWarning, ...] = ()


# Gives what is stored of an image, or raises what is wrong with it.
Read = Callable[[], EncodedImage]


class Reader(Protocol):
    """Reads the images of one shard, in order, some at a time."""

    def start(
        self, refs: Sequence[ImageRef], then: Callable[[list[Read], float], None]
    ) -> Future[None] | None:
        """Calls `then` with a `Read` for each of the next refs and the seconds that it took so far.

        Returns:
          what will call it, where one thread reads all of them; None: it was called at once, and
          each of them does its own reading, in whatever thread.
        """

    def close(self) -> None:
        """Stops reading."""
