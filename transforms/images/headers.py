"""What an encoded image says of itself: its format and size, without decoding it.

Read before anything is allocated for an image, so that a small file cannot ask for much memory.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from typing import Literal

import numpy as np

from transforms.errors import (
    CorruptImageError,
    EmptyImageError,
    NotAnImageError,
    UnsupportedImageError,
)

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

# Each scan of a JPEG costs as much as the image has blocks, however few its bytes: 1,000 empty ones
# keep a core busy for many seconds. Encoders write about ten.
MAX_SCANS = 100
# So many it may always have; beyond that no more than these pixels in all scans.
_FREE_SCANS = 20
_MAX_SCANNED = 2**31
# Each costs a step, with as little as two bytes. A profile and the longest notes take 300.
MAX_SEGMENTS = 10_000
_FILL = re.compile(rb"\xff+")

# Steps through a GIF, each of two bytes or more; one of 256 MiB that is written as usual has 1.1
# million. Each frame takes memory even where only the first is wanted.
_MAX_GIF_BLOCKS = 2**21
MAX_FRAMES = 10_000

_MAX_PALETTE = 256
_SOS, _EOI, _SOF_LS = 0xDA, 0xD9, 0xF7
# Neither a stuffed byte, a fill byte nor a marker that stands alone among the data.
_SEGMENT = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")


@dataclasses.dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an encoded image says of itself before it is decoded.

    Attributes:
      format: how it is encoded.
      width, height: in pixels.
      animated: whether a WebP says that it is an animation.
      alpha: whether a WebP has an alpha channel.
      frames: how many are unpacked to get the first.
      end: bytes of a GIF up to the end of its first frame, if nothing else needs to be unpacked.
      start_of_frame, components: of a JPEG, the marker that says how it is coded, and how many
        colour components it has.
      precision: of a JPEG, bits of a sample.
    """

    format: Literal["JPEG", "PNG", "GIF", "BMP", "WebP"]
    width: int
    height: int
    animated: bool = False
    alpha: bool = False
    frames: int = 1
    end: int | None = None
    start_of_frame: int = 0
    components: int = 0
    precision: int = 8


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


def _jpeg_header(data: bytes) -> ImageHeader:
    """Walks the marker segments to the frame header (ITU T.81, B.1.1 and B.2.2)."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        fill = _FILL.search(data, at)
        if fill is None:
            raise IndexError
        marker = data[fill.end()]
        at = fill.end() + 1
        if marker in (0x01, *range(0xD0, 0xD9)):
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            precision, height, width, components = struct.unpack_from(">BHHB", data, at + 2)
            progressive = marker & 3 == 2
            most = max(_FREE_SCANS, _MAX_SCANNED // max(1, width * height))
            single = 0 if progressive else components
            _check_scans(data, at + length, single, min(MAX_SCANS, most))
            return ImageHeader(
                *("JPEG", width, height),
                start_of_frame=marker,
                components=components,
                precision=precision,
            )
        if marker == _SOF_LS:
            raise UnsupportedImageError("JPEG-LS; JPEG, PNG, GIF, BMP and WebP are decoded")
        if marker in (0xD9, 0xDA):
            raise CorruptImageError("no frame header before the JPEG's data")
        at += length
    raise _too_many_segments()


def _check_scans(data: bytes, at: int, single: int, most: int) -> None:
    """Refuses a JPEG of many scans, which are found from `at` on as libjpeg does (jdmarker.c).

    If the first is of `single` components, no other is read.
    """
    scans = 0
    for _ in range(MAX_SEGMENTS):
        segment = _SEGMENT.search(data, at)
        if segment is None:
            return
        at = segment.end()
        marker = data[at - 1]
        if marker == _EOI:
            return
        if marker == _SOS:
            if scans == 0 and data[at + 2 : at + 3] == bytes([single]):
                return
            scans += 1
            if scans > most:
                raise UnsupportedImageError(f"a JPEG of more than {most} scans; encode it anew")
        at += int.from_bytes(data[at : at + 2], "big")
    raise _too_many_segments()


def _too_many_segments() -> UnsupportedImageError:
    return UnsupportedImageError(
        f"a JPEG of more than {MAX_SEGMENTS:,} marker segments; encode it anew"
    )


def _gif_header(data: bytes) -> ImageHeader:
    """The logical screen, enlarged to hold all frames (GIF89a, sections 18 and 20).

    TensorFlow unpacks all frames and allocates for the largest, even where only the first is
    wanted. Where the first is the largest, the others change nothing and need not be unpacked.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _gif_colours(flags)
    frames: list[tuple[int, int]] = []
    end = None
    blocks = 0
    try:
        while data[at] in (0x21, 0x2C):  # an extension or a frame, then sub-blocks
            if data[at] == 0x21:
                at += 2
            else:
                left, top, columns, rows, flags = struct.unpack_from("<HHHHB", data, at + 1)
                width, height = max(width, left + columns), max(height, top + rows)
                frames.append((columns, rows))
                at += 11 + _gif_colours(flags)
            blocks += 1
            while data[at]:
                at += data[at] + 1
                blocks += 1
                if blocks > _MAX_GIF_BLOCKS:
                    break
            at += 1
            if frames and end is None:
                end = at
            if len(frames) > MAX_FRAMES:
                raise UnsupportedImageError(f"a GIF of more than {MAX_FRAMES:,} frames")
            if blocks > _MAX_GIF_BLOCKS:
                raise UnsupportedImageError(f"a GIF of more than {_MAX_GIF_BLOCKS:,} blocks")
    except (IndexError, struct.error):
        pass  # cut off: decoding it says so
    if end and frames[0] == tuple(map(max, zip(*frames, strict=True))):
        return ImageHeader("GIF", width, height, end=end)
    return ImageHeader("GIF", width, height, frames=max(1, len(frames)))


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
        if len(palette) > 4 * _MAX_PALETTE:
            raise UnsupportedImageError(f"a BMP with a palette of more than {_MAX_PALETTE} colours")
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
