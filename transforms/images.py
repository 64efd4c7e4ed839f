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
import struct
from typing import Literal

import numpy as np

from transforms.errors import (
    CorruptImageError,
    EmptyImageError,
    ImageTooLargeError,
    NotAnImageError,
    UnsupportedImageError,
    one_line,
)

DEFAULT_MAX_PIXELS = 178_956_970
DEFAULT_MAX_FILE_BYTES = 256 * 2**20

# convert_image_dtype multiplies by this float32; dividing by 255 gives other last bits.
UINT8_SCALE = np.float32(1.0 / 255.0)

# From here on, sampling only the source pixels that the output needs is faster than converting the
# whole image to float (benchmarks/README.md), and its memory does not grow with the image.
SAMPLE_FROM_PIXELS = 3_000_000

_OTHER_FORMATS = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"\0\0\x01\0", "ICO"),
)
_BGR_MASKS = (0xFF0000, 0xFF00, 0xFF)
_HEIF_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """What the model wants to see, and what is refused before it is decoded.

    Attributes:
      height, width: size of the model's input in pixels.
      pixels: "exact" keeps resized values as float32; "uint8" rounds them (a quarter of the bytes,
        cosine of feature vectors about 0.9999).
      max_pixels: largest width × height that is decoded.
      max_file_bytes: largest encoded image that is read.
    """

    height: int
    width: int
    pixels: Literal["exact", "uint8"] = "exact"
    max_pixels: int = DEFAULT_MAX_PIXELS
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an encoded image says of itself before it is decoded. Width and height in pixels."""

    format: Literal["JPEG", "PNG", "GIF", "BMP", "WebP"]
    width: int
    height: int
    animated: bool = False
    alpha: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class DecodedImage:
    """One image at the model's size, and the size it came in.

    Attributes:
      pixels: [height, width, 3] RGB; uint8 where nothing was resized or `pixels="uint8"` was
        asked for, else float32 in [0, 1].
      width, height: of the source image, in pixels.
    """

    pixels: np.ndarray
    width: int
    height: int


def read_header(data: bytes) -> ImageHeader:
    """Format and size of an encoded image, without decoding it.

    Raises:
      EmptyImageError, NotAnImageError, UnsupportedImageError, CorruptImageError.
    """
    if not data:
        raise EmptyImageError("the image has no bytes")
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg_header(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return ImageHeader("PNG", *struct.unpack_from(">II", data, 16))
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _gif_header(data)
        if data.startswith(b"BM"):
            return _bmp_header(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp_header(data)
    except (struct.error, IndexError):
        raise CorruptImageError(f"the header is cut off after {len(data)} bytes") from None
    raise _unknown_format(data)


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
    rgb = _decode(data, header)
    height, width = rgb.shape[:2]
    if (height, width) == (spec.height, spec.width):
        return DecodedImage(rgb, width, height)
    resized = resize(rgb, spec.height, spec.width)
    if spec.pixels == "uint8":
        resized = np.rint(resized * np.float32(255.0)).astype(np.uint8)
    return DecodedImage(resized, width, height)


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


def _jpeg_header(data: bytes) -> ImageHeader:
    """Walks the marker segments to the frame header (ITU T.81, B.1.1 and B.2.2)."""
    at = 2
    while True:
        at = data.find(b"\xff", at)
        if at < 0:
            raise IndexError
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in (0x01, *range(0xD0, 0xD9)):
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 3)
            return ImageHeader("JPEG", width, height)
        if marker in (0xD9, 0xDA):
            raise CorruptImageError("no frame header before the JPEG's data")
        at += length


def _gif_header(data: bytes) -> ImageHeader:
    """The logical screen, enlarged to hold all frames (GIF89a, sections 18 and 20).

    TensorFlow allocates for the largest frame, even where only the first is wanted.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _gif_colours(flags)
    try:
        while data[at] in (0x21, 0x2C):  # an extension or a frame, then sub-blocks
            if data[at] == 0x21:
                at += 2
            else:
                left, top, columns, rows, flags = struct.unpack_from("<HHHHB", data, at + 1)
                width, height = max(width, left + columns), max(height, top + rows)
                at += 11 + _gif_colours(flags)
            while data[at]:
                at += data[at] + 1
            at += 1
    except (IndexError, struct.error):
        pass  # cut off: decoding it says so
    return ImageHeader("GIF", width, height)


def _gif_colours(flags: int) -> int:
    """Bytes of the colour table that the flags of a screen or a frame announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp_header(data: bytes) -> ImageHeader:
    """File header and info header; refuses what TensorFlow would read as other colours."""
    (pixel_offset, info_size, width, height, _, bits, compression) = struct.unpack_from(
        "<IIiiHHI", data, 10
    )
    if info_size < 40:
        raise UnsupportedImageError("an OS/2 BMP; convert it to PNG")
    if compression not in (0, 3):
        raise UnsupportedImageError("a compressed BMP; convert it to PNG")
    if bits not in (8, 24, 32):
        raise UnsupportedImageError(f"a BMP with {bits} bits a pixel; convert it to PNG")
    if compression == 3 and struct.unpack_from("<III", data, 54) != _BGR_MASKS:
        raise UnsupportedImageError("a BMP with its own colour masks; convert it to PNG")
    if bits == 8:
        palette = data[14 + info_size : pixel_offset]
        levels = np.frombuffer(palette[: len(palette) // 4 * 4], np.uint8).reshape(-1, 4)[:, :3]
        if not np.array_equal(levels, np.repeat(np.arange(len(levels)), 3).reshape(-1, 3)):
            raise UnsupportedImageError("a BMP with a colour palette; convert it to PNG")
    return ImageHeader("BMP", abs(width), abs(height))


def _webp_header(data: bytes) -> ImageHeader:
    """The first chunk: lossy, lossless or extended (WebP container specification, RFC 9649)."""
    chunk = data[12:16]
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("WebP", width & 0x3FFF, height & 0x3FFF)
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        return ImageHeader("WebP", width, height, alpha=bool(bits >> 28 & 1))
    if chunk == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        flags = data[20]
        return ImageHeader("WebP", width, height, bool(flags & 0x02), bool(flags & 0x10))
    raise CorruptImageError(f"a WebP whose first chunk is {chunk!r}")


def _unknown_format(data: bytes) -> Exception:
    for magic, name in _OTHER_FORMATS:
        if data.startswith(magic):
            return UnsupportedImageError(f"{name}; JPEG, PNG, GIF, BMP and WebP are decoded")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        name = _HEIF_BRANDS[data[8:12]]
        return UnsupportedImageError(f"{name}; JPEG, PNG, GIF, BMP and WebP are decoded")
    if b"<svg" in data[:1024]:
        return UnsupportedImageError("SVG; JPEG, PNG, GIF, BMP and WebP are decoded")
    return NotAnImageError(f"not an image: it begins with {data[:16]!r}")
