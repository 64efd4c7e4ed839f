"""Bytes to pixels: the exact pixels of `tf.image`, with limits that are checked before decoding.

The reference is `tf.io.decode_image(channels=3, expand_animations=False)`, then
`tf.image.convert_image_dtype(…, tf.float32)`, then `tf.image.resize(…)` (bilinear, half-pixel
centres, no antialias). What is here is bit-equal to it; `tests/test_images.py` holds it to that.

With `decode="fast"` JPEGs may be decoded smaller and with less care; all else is the same.

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
from transforms.images import jpeg
from transforms.images.headers import ImageHeader, read_header
from transforms.machine.tensorflow_import import import_tensorflow

InputKind = Literal["pixels", "encoded", "example"]

DEFAULT_MAX_PIXELS = 178_956_970
DEFAULT_MAX_FILE_BYTES = 256 * 2**20

# convert_image_dtype multiplies by this float32; dividing by 255 gives other last bits.
UINT8_SCALE = np.float32(1.0 / 255.0)


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
    pixels: Literal["exact", "uint8"] = "exact"
    decode: Literal["exact", "fast"] = "exact"
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
    if header.width * header.height * header.frames > spec.max_pixels:
        frames = f" in each of {header.frames} frames" if header.frames > 1 else ""
        raise ImageTooLargeError(
            f"{header.width}×{header.height} pixels{frames}, over --max_pixels {spec.max_pixels}"
        )
    if header.width == 0 or header.height == 0:
        raise CorruptImageError(f"the header says {header.width}×{header.height} pixels")
    if spec.kind != "pixels":
        stored = np.empty((), object)
        stored[()] = serialized_example(data) if spec.kind == "example" else data
        return DecodedImage(stored, header.width, header.height)
    rgb = _decode(data, header, spec)
    height, width = rgb.shape[:2]
    if header.format == "JPEG":  # it may have been decoded smaller
        height, width = header.height, header.width
    if rgb.shape[:2] == (spec.height, spec.width):
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

    Only the source pixels that the output needs are converted. The arithmetic, in its order, is
    that of TensorFlow's CPU kernel (resize_bilinear_op.cc): first between columns, then rows.

    Args:
      rgb: uint8 [H, W, 3].

    Returns:
      float32 [height, width, 3] in [0, 1].
    """
    needed, top, bottom, y_lerp = _row_plan(rgb.shape[0], height)
    left, right, x_lerp = _column_plan(rgb.shape[1], width)
    rows = rgb.reshape(len(rgb), -1)
    if len(needed) < len(rows):
        rows = rows[needed]

    from_left = to_float(np.take(rows, left, axis=1, mode="clip"))
    between = to_float(np.take(rows, right, axis=1, mode="clip"))
    between -= from_left
    between *= x_lerp
    between += from_left

    from_top = np.take(between, top, axis=0, mode="clip")
    resized = np.take(between, bottom, axis=0, mode="clip")
    resized -= from_top
    resized *= y_lerp
    resized += from_top
    return resized.reshape(height, width, 3)


@functools.lru_cache(256)
def _row_plan(size_in: int, size_out: int) -> tuple[np.ndarray, ...]:
    """Which rows are needed; which of these lie above and below each output row; weights [H, 1]."""
    top, bottom, lerp = _interpolation(size_in, size_out)
    needed, place = np.unique([top, bottom], return_inverse=True)
    top, bottom = place.reshape(2, -1)
    return needed, top, bottom, lerp[:, np.newaxis]


@functools.lru_cache(256)
def _column_plan(size_in: int, size_out: int) -> tuple[np.ndarray, ...]:
    """Where in a row the channels left and right of each output channel are; weights [W * 3]."""
    left, right, lerp = _interpolation(size_in, size_out)
    left, right = ((at[:, np.newaxis] * 3 + np.arange(3)).ravel() for at in (left, right))
    return left, right, np.repeat(lerp, 3)


def _interpolation(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower index, upper index (int64) and weight of the upper (float32) for each output pixel."""
    scale = np.float32(size_in) / np.float32(size_out)
    position = (np.arange(size_out, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(position)
    lower = np.maximum(floor, 0).astype(np.int64)
    upper = np.minimum(np.ceil(position), size_in - 1).astype(np.int64)
    return lower, upper, (position - floor).astype(np.float32)


def _decode(data: bytes, header: ImageHeader, spec: ImageSpec) -> np.ndarray:
    """uint8 [H, W, 3]."""
    if header.format == "WebP" and header.animated:
        return _decode_first_webp_frame(data)
    if header.format == "JPEG":
        if spec.decode == "fast":
            pixels = jpeg.fast_pixels(data, header, spec.height, spec.width)
        else:
            pixels = jpeg.exact_pixels(data, header)
        if pixels is not None:
            return pixels
    if header.end:  # TensorFlow would unpack all frames of a GIF, and keep them in memory
        data = data[: header.end] + b";"
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
    import_tensorflow()
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
