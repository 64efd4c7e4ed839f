"""The elements that go into and come out of RunInference.

An `ImageBatch` and the `FeatureBatch` made of it account for a run of consecutive refs of their
shard: each of these refs is in `rows` or in `errors`.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from transforms.errors import ErrorRow
from transforms.refs import ImageRef

# Of the metrics of all steps.
METRICS_NAMESPACE = "image_features"


@dataclasses.dataclass(frozen=True, slots=True)
class ImageWarning:
    """What was wrong with an image that is a row all the same.

    Attributes:
      kind: `jpeg`: libjpeg warned of its data; `keep`: a value for a kept column did not fit.
      message: on one line.
    """

    kind: Literal["jpeg", "keep"]
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class ImageRow:
    """What the part says of an image besides the model's answer.

    Attributes:
      ref: the image.
      width, height: of the source image, in pixels.
      kept: values of the passed-through columns, in the order of `ExampleSpec.keep`.
      warnings: what was wrong with it.
    """

    ref: ImageRef
    width: int
    height: int
    kept: tuple[object, ...] = ()
    warnings: tuple[ImageWarning, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class StageSeconds:
    """Where the time went, in seconds.

    Attributes:
      read, decode: summed over threads.
      wait: in which the model waited for images.
      infer: in the model.
      write: of a part.
    """

    read: float = 0.0
    decode: float = 0.0
    wait: float = 0.0
    infer: float = 0.0
    write: float = 0.0

    def __add__(self, other: StageSeconds) -> StageSeconds:
        return StageSeconds(
            self.read + other.read,
            self.decode + other.decode,
            self.wait + other.wait,
            self.infer + other.infer,
            self.write + other.write,
        )


@dataclasses.dataclass(frozen=True)
class BatchPlace:
    """Which refs of which shard a batch accounts for.

    Attributes:
      shard: name of the shard.
      shard_size: number of refs in the whole shard.
      start: position in the shard of the first ref that this batch accounts for.
      size: number of refs that it accounts for: rows and errors.
    """

    shard: str
    shard_size: int
    start: int
    size: int


@dataclasses.dataclass(frozen=True, eq=False)
class ImageBatch:
    """Decoded images of one shape, and what is known of them. The element for RunInference.

    Attributes:
      images: [B, H, W, 3] RGB, B = len(rows), possibly 0; float32 in [0, 1], or uint8 where
        nothing was resized or rounded pixels were asked for. Where the model decodes images
        itself, [B] of bytes.
      rows: one for each image, in the order of the shard.
      errors: the refs of this batch that did not become an image.
      place: the refs that this batch accounts for.
      seconds: time spent on it.
    """

    images: np.ndarray
    rows: tuple[ImageRow, ...]
    errors: tuple[ErrorRow, ...]
    place: BatchPlace
    seconds: StageSeconds = StageSeconds()

    def __len__(self) -> int:
        return len(self.rows)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureBatch:
    """The model's answer to one image batch.

    Attributes:
      features: float32 [B, N], B = len(rows).
      rows, errors, place, seconds: as in the image batch; `errors` now also has the images on which
        the model failed, `seconds` the time in it.
    """

    features: np.ndarray
    rows: tuple[ImageRow, ...]
    errors: tuple[ErrorRow, ...]
    place: BatchPlace
    seconds: StageSeconds = StageSeconds()

    def __len__(self) -> int:
        return len(self.rows)
