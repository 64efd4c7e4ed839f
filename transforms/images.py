"""Bytes to pixels: the exact pixels of `tf.image`, with limits that are checked before decoding.

The reference is `tf.io.decode_image(channels=3, expand_animations=False)`, then
`tf.image.convert_image_dtype(…, tf.float32)`, then `tf.image.resize(…)` (bilinear, half-pixel
centres, no antialias). What is here is bit-equal to it; `tests/test_images.py` holds it to that.

Defined outcomes: greyscale and palette images are expanded to RGB; alpha is dropped without
blending; 16-bit PNGs keep their high byte; CMYK JPEGs are converted; EXIF orientation is ignored;
of an animation the first frame is used.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from typing import Literal

import numpy as np

from transforms.errors import CorruptImageError, ImageTooLargeError, one_line
from transforms.image_headers import ImageHeader, read_header

InputKind = Literal["pixels", "encoded", "example"]

DEFAULT_MAX_PIXELS = 178_956_970
DEFAULT_MAX_FILE_BYTES = 256 * 2**20

# convert_image_dtype multiplies by this float32; dividing by 255 gives other last bits.
UINT8_SCALE = np.float32(1.0 / 255.0)

# From here on, sampling only the source pixels that the output needs is faster than converting the
# whole image to float, and its memory does not grow with the image.
SAMPLE_FROM_PIXELS = 3_000_000


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """What the model wants to see, and what is refused before it is decoded.

    Attributes:
      height, width: size of the model's input in pixels.
      kind: "pixels"; or "encoded" or "example" for a model that decodes images itself and gets
        the stored bytes, alone or in a `tf.Example`. Then height and width are 0.
      pixels: "exact" keeps resized values as float32; "uint8" rounds them (a quarter of the bytes,
        cosine of feature vectors about 0.9999).
      max_pixels: largest width × height that is decoded.
      max_file_bytes: largest encoded image that is read.
    """

    height: int
    width: int
    pixels: Literal["exact", "uint8"] = "exact"
    kind: InputKind = "pixels"
    max_pixels: int = DEFAULT_MAX_PIXELS
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class DecodedImage:
    """One image at the model's size, and the size it came in.

    Attributes:
      pixels: [height, width, 3] RGB; uint8 where nothing was resized or `pixels="uint8"` was
        asked for, else float32 in [0, 1]. Where the model decodes images itself, a scalar array of
        bytes.
      width, height: of the source image, in pixels.
    """

    pixels: np.ndarray
    width: int
    height: int


def decode_image(data: bytes, spec: ImageSpec) -> DecodedImage:
    """Decodes and resizes one image.

    Args:
      data: an encoded JPEG, PNG, GIF, BMP or WebP.
      spec: the size that the model wants, and the limits.

    Raises:
      ImageError: a subclass that names the reason; see `transforms.errors`.
    """
    header = read_header(data)
    if header.width * header.height > spec.max_pixels:
        raise ImageTooLargeError(
            f"{header.width}×{header.height} pixels, over --max_pixels {spec.max_pixels}"
        )
    if header.width == 0 or header.height == 0:
        raise CorruptImageError(f"the header says {header.width}×{header.height} pixels")
    if spec.kind != "pixels":
        stored = np.empty((), object)
        stored[()] = serialized_example(data) if spec.kind == "example" else data
        return DecodedImage(stored, header.width, header.height)
    rgb = _decode(data, header)
    height, width = rgb.shape[:2]
    if (height, width) == (spec.height, spec.width):
        return DecodedImage(rgb, width, height)
    resized = resize(rgb, spec.height, spec.width)
    if spec.pixels == "uint8":
        resized = np.rint(resized * np.float32(255.0)).astype(np.uint8)
    return DecodedImage(resized, width, height)


def blank_images(count: int, spec: ImageSpec) -> np.ndarray:
    """A batch of black images as `spec` wants them: [count, H, W, 3] float32, or [count] bytes."""
    if spec.kind == "pixels":
        return np.zeros((count, spec.height, spec.width, 3), np.float32)
    import PIL.Image

    png = io.BytesIO()
    PIL.Image.new("RGB", (64, 64)).save(png, "PNG")
    image = decode_image(png.getvalue(), spec)
    return np.repeat(image.pixels.reshape(1), count)


def serialized_example(data: bytes) -> bytes:
    """A serialised `tf.Example` with the encoded image as `image/encoded`."""
    from tensorflow.core.example import example_pb2

    example = example_pb2.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(data)
    return example.SerializeToString()


def to_float(pixels: np.ndarray) -> np.ndarray:
    """uint8 pixels as float32 in [0, 1], bit-equal to `tf.image.convert_image_dtype`."""
    return np.multiply(pixels, UINT8_SCALE, dtype=np.float32)


def resize(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes as `tf.image.convert_image_dtype` then `tf.image.resize` do, bit for bit.

    Args:
      rgb: uint8 [H, W, 3].

    Returns:
      float32 [height, width, 3] in [0, 1].
    """
    if rgb.shape[0] * rgb.shape[1] >= SAMPLE_FROM_PIXELS:
        return sample_bilinear(rgb, height, width)
    import tensorflow as tf

    return tf.raw_ops.ResizeBilinear(
        images=to_float(rgb)[np.newaxis], size=(height, width), half_pixel_centers=True
    ).numpy()[0]


def sample_bilinear(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """`resize`, converting only the source pixels that the output needs.

    The arithmetic, in its order, is that of TensorFlow's CPU kernel (resize_bilinear_op.cc).
    """
    top_row, bottom_row, y_lerp = _interpolation(rgb.shape[0], height)
    left_column, right_column, x_lerp = _interpolation(rgb.shape[1], width)
    x_lerp = x_lerp[np.newaxis, :, np.newaxis]
    y_lerp = y_lerp[:, np.newaxis, np.newaxis]

    def between_columns(rows: np.ndarray) -> np.ndarray:
        left = to_float(rgb[np.ix_(rows, left_column)])
        right = to_float(rgb[np.ix_(rows, right_column)])
        return left + (right - left) * x_lerp

    top, bottom = between_columns(top_row), between_columns(bottom_row)
    return top + (bottom - top) * y_lerp


def _interpolation(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower index, upper index (int64) and weight of the upper (float32) for each output pixel."""
    scale = np.float32(size_in) / np.float32(size_out)
    position = (np.arange(size_out, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(position)
    lower = np.maximum(floor, 0).astype(np.int64)
    upper = np.minimum(np.ceil(position), size_in - 1).astype(np.int64)
    return lower, upper, (position - floor).astype(np.float32)


def _decode(data: bytes, header: ImageHeader) -> np.ndarray:
    """uint8 [H, W, 3]."""
    if header.format == "WebP" and header.animated:
        return _decode_first_webp_frame(data)
    tf, tf_errors = _tensorflow()
    # TensorFlow drops the alpha of every format but WebP by itself.
    channels = 4 if header.format == "WebP" and header.alpha else 3
    try:
        pixels = tf.raw_ops.DecodeImage(
            contents=data, channels=channels, dtype=tf.uint8, expand_animations=False
        ).numpy()
        return pixels[:, :, :3]
    except tf_errors as error:
        raise CorruptImageError(
            f"truncated or damaged {header.format}: {one_line(error)}"
        ) from None


@functools.cache
def _tensorflow():
    """TensorFlow, imported where pixels are made and nowhere earlier: it takes seconds."""
    import tensorflow as tf

    return tf, (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError)


def _decode_first_webp_frame(data: bytes) -> np.ndarray:
    # TensorFlow 2.21 writes past its buffer when asked for one frame of an animated WebP.
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGBA"))[:, :, :3]
    except PIL.Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"an animated WebP: {one_line(error)}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise CorruptImageError(f"truncated or damaged WebP: {one_line(error)}") from None
