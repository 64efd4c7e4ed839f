"""The way back: from the refs of a shard to encoded images, whatever kind of input they are of."""

from __future__ import annotations

from collections.abc import Sequence

from transforms.inputs import files, tfrecord
from transforms.inputs.encoded import Reader
from transforms.inputs.examples import ExampleSpec
from transforms.refs import ImageRef


def open_reader(refs: Sequence[ImageRef], max_bytes: int, examples: ExampleSpec) -> Reader:
    """A reader for the refs of one shard, which are all of one kind.

    Args:
      refs: of one container, in order, or files.
      max_bytes: a larger encoded image is an `ImageTooLargeError`.
      examples: which features of records are read.
    """
    kind = tfrecord if refs[0].is_record else files
    return kind.open_reader(refs, max_bytes, examples)
