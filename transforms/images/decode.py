"""Bytes to pixels: the exact pixels of `tf.image`, with limits that are checked before decoding.

The reference is `tf.io.decode_image(channels=3, expand_animations=False)`, then
`tf.image.convert_image_dtype(…, tf.float32)`, then `tf.image.resize(…)` (bilinear, half-pixel
centres, no antialias). What is here is bit-equal to it; `tests/transforms/images/test_decode.py`
holds it to that.

With `decode="fast"` JPEGs may be decoded smaller and with less care; all else is the same.

Defined outcomes: greyscale and palette images are expanded to RGB; alpha is dropped without
blending; 16-bit PNGs keep their high byte; CMYK JPEGs are converted; EXIF orientation is ignored;
of an animation the first frame is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
from collections.abc import Iterator

import numpy as np

from transforms.batches import ImageWarning
from transforms.errors import (
    CorruptImageError,
    ImageTooLargeError,
    UnsupportedImageError,
    one_line,
)
from transforms.images import jpeg, png
from transforms.images.budget import ByteBudget
from transforms.images.headers import ImageHeader, read_header
from transforms.images.resize import resize
from transforms.images.spec import ImageSpec
from transforms.machine import native_stderr
from transforms.machine.shares import memory_share
from transforms.machine.tensorflow_import import import_tensorflow

# Of this process's share of the memory, for large images while they are decoded. An image may say
# with few bytes that it is large; in a batch there is a small one of it, whatever it says.
DECODING_SHARE = 1 / 8
# What every thread may decode besides: photos, so that they do not wait for each other.
_USUAL_PIXELS = 2**22
# A progressive JPEG takes 6 for its coefficients and 3 for the pixels, a PNG those twice; Pillow
# draws animations on several canvases.
_BYTES_A_PIXEL = 10
_BYTES_A_PIXEL_ANIMATED = 24


@dataclasses.dataclass(frozen=True, slots=True)
class DecodedImage:
    """One image at the model's size, and the size it came in.

    Attributes:
      pixels: [height, width, 3] RGB; uint8 where nothing was resized or `pixels="uint8"` was
        asked for, else float32 in [0, 1]. Where the model decodes images itself, a scalar array of
        bytes.
      width, height: of the source image, in pixels.
      warnings: of the decoder, which decoded it all the same.
    """

    pixels: np.ndarray
    width: int
    height: int
    warnings: tuple[ImageWarning, ...] = ()


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
            f"{header.width}×{header.height} pixels{frames}, over max_pixels {spec.max_pixels}"
        )
    if header.width == 0 or header.height == 0:
        raise CorruptImageError(f"the header says {header.width}×{header.height} pixels")
    if header.format == "PNG":
        data = png.without_notes(data)
    if spec.kind != "pixels":
        stored = np.empty((), object)
        stored[()] = serialized_example(data) if spec.kind == "example" else data
        return DecodedImage(stored, header.width, header.height)
    with _room(header):
        rgb, warnings = _decode(data, header, spec)
        height, width = rgb.shape[:2]
        if header.format == "JPEG":  # it may have been decoded smaller
            height, width = header.height, header.width
        if rgb.shape[:2] == (spec.height, spec.width):
            return DecodedImage(rgb, width, height, warnings)
        resized = resize(rgb, spec.height, spec.width)
        del rgb
    if spec.pixels == "uint8":
        resized = np.rint(resized * np.float32(255.0)).astype(np.uint8)
    return DecodedImage(resized, width, height, warnings)


def _room(header: ImageHeader) -> contextlib.AbstractContextManager[None]:
    """Waits until there is room for an image's pixels, if there are more than usual."""
    pixels = header.width * header.height * header.frames
    if pixels <= _USUAL_PIXELS:
        return _NO_ROOM
    needs = pixels * (_BYTES_A_PIXEL_ANIMATED if header.animated else _BYTES_A_PIXEL)
    return _held(needs)


_NO_ROOM = contextlib.nullcontext()


@contextlib.contextmanager
def _held(size: int) -> Iterator[None]:
    budget = _decoding_budget()
    budget.acquire(size)
    try:
        yield
    finally:
        budget.release(size)


@functools.cache
def _decoding_budget() -> ByteBudget:
    """One a process, whatever the number of threads."""
    return ByteBudget(int(DECODING_SHARE * memory_share()))


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


def _decode(
    data: bytes, header: ImageHeader, spec: ImageSpec
) -> tuple[np.ndarray, tuple[ImageWarning, ...]]:
    """uint8 [H, W, 3], and what the decoder warned of."""
    if header.format == "WebP" and header.animated:
        return _decode_first_webp_frame(data), ()
    if header.format == "JPEG":
        if spec.decode == "fast":
            pixels = jpeg.fast_pixels(data, header, spec.height, spec.width)
        else:
            pixels = jpeg.exact_pixels(data, header)
        if pixels is not None:
            return pixels, ()
    if header.end:  # TensorFlow would unpack all frames of a GIF, and keep them in memory
        data = data[: header.end] + b";"
    tf, tf_errors = _tensorflow()
    # TensorFlow drops the alpha of every format but WebP by itself.
    channels = 4 if header.format == "WebP" and header.alpha else 3
    try:
        with _heard(header) as said:
            pixels = tf.raw_ops.DecodeImage(
                contents=data, channels=channels, dtype=tf.uint8, expand_animations=False
            ).numpy()
        return pixels[:, :, :3], tuple(ImageWarning("jpeg", line) for line in said)
    except tf_errors as error:
        variant = jpeg.variant(header) if header.format == "JPEG" else None
        if variant:
            raise UnsupportedImageError(f"{variant}; encode it anew as a usual one") from None
        raise CorruptImageError(
            f"truncated or damaged {header.format}: {one_line(error)}"
        ) from None


def _heard(header: ImageHeader) -> contextlib.AbstractContextManager[list[str]]:
    """Keeps what libjpeg says on stderr, without saying of which image; that list is filled then.

    Few JPEGs come this far: those that are damaged or unusual.
    """
    if header.format == "JPEG":
        return native_stderr.without(native_stderr.LIBJPEG)
    return contextlib.nullcontext([])


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
