"""What a model wants to see, and what is refused before it is decoded."""

from __future__ import annotations

import dataclasses
from typing import Literal

InputKind = Literal["pixels", "encoded", "example"]
PixelMode = Literal["exact", "uint8"]
DecodeMode = Literal["exact", "fast"]

DEFAULT_MAX_PIXELS = 178_956_970
DEFAULT_MAX_FILE_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """What the model wants to see, and what is refused before it is decoded.

    Attributes:
      height, width: size of the model's input in pixels.
      kind: "pixels"; or "encoded" or "example" for a model that decodes images itself and gets
        the stored bytes, alone or in a `tf.Example`. Then height and width are 0.
      pixels: "exact" keeps resized values as float32; "uint8" rounds them (a quarter of the bytes,
        cosine of feature vectors about 0.9999).
      decode: "exact" for TensorFlow's pixels; "fast" decodes JPEGs to the size that is needed
        (mean cosine of feature vectors 0.994 for colour photos of 12 megapixels).
      max_pixels: largest width × height that is decoded.
      max_file_bytes: largest encoded image that is read.
    """

    height: int
    width: int
    pixels: PixelMode = "exact"
    decode: DecodeMode = "exact"
    kind: InputKind = "pixels"
    max_pixels: int = DEFAULT_MAX_PIXELS
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES
