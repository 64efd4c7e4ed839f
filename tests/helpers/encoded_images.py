"""Images in every encoding there is, whole and damaged, and the pixels that TensorFlow gives."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable

import numpy as np
import PIL.Image

ADAM7 = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]


def rgba_pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A gradient with noise: uint8 [height, width, 4], the same for the same arguments."""
    noise = np.random.default_rng([height, width, seed]).integers(0, 80, (height, width, 4))
    gradient = np.add.outer(np.arange(height) * 3, np.arange(width) * 2) % 176
    return (gradient[:, :, np.newaxis] + noise).astype(np.uint8)


def image(height: int, width: int, mode: str = "RGB", seed: int = 0) -> PIL.Image.Image:
    return PIL.Image.fromarray(rgba_pixels(height, width, seed)).convert(mode)


def saved(picture: PIL.Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def variant(mode: str, file_format: str, **options: object) -> Callable[[int, int], bytes]:
    return lambda height, width: saved(image(height, width, mode), file_format, **options)


def animated(file_format: str, mode: str = "RGB", **options: object) -> Callable[[int, int], bytes]:
    def encode(height: int, width: int) -> bytes:
        first, *others = (image(height, width, mode, seed) for seed in range(4))
        return saved(first, file_format, save_all=True, append_images=others, **options)

    return encode


def png16(mode_channels: int) -> Callable[[int, int], bytes]:
    def encode(height: int, width: int) -> bytes:
        import tensorflow as tf

        values = np.random.default_rng(1).integers(0, 65536, (height, width, mode_channels))
        return tf.io.encode_png(values.astype(np.uint16)).numpy()

    return encode


def png(header: bytes, raw: bytes) -> bytes:
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def interlaced_png(height: int, width: int) -> bytes:
    rgb = rgba_pixels(height, width)[:, :, :3]
    passes = (rgb[top::down, left::across] for left, top, across, down in ADAM7)
    raw = b"".join(b"\0" + row.tobytes() for rows in passes for row in rows if row.size)
    return png(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1), raw)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header says what it likes, with the right checksum."""
    return png(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"\0" * 100)


def bmp(
    rows: bytes,
    width: int,
    height: int,
    bits: int,
    compression: int = 0,
    after_header: bytes = b"",
    info_size: int = 40,
) -> bytes:
    """A BMP; `after_header` holds the masks and the rest of a long header, or the palette."""
    info = struct.pack("<IiiHHIIiiII", info_size, width, height, 1, bits, compression, *[0] * 5)
    offset = 14 + len(info) + len(after_header)
    head = b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset)
    return head + info + after_header + rows


def top_down_bmp(height: int, width: int) -> bytes:
    return bmp(rgba_pixels(height, width).tobytes(), width, -height, 32)


def jpeg_with_thumbnail(height: int, width: int) -> bytes:
    exif = b"Exif\0\0" + saved(image(4, 3), "JPEG")
    return saved(image(height, width), "JPEG", exif=exif)


def jpeg_with_fill_bytes(height: int, width: int) -> bytes:
    """Any marker may be preceded by any number of 0xFF (ITU T.81, B.1.1.2)."""
    data = saved(image(height, width), "JPEG")
    at = data.index(b"\xff\xc0")
    return data[:at] + b"\xff\xff\xff" + data[at:]


VARIANTS: dict[str, Callable[[int, int], bytes]] = {
    "jpeg rgb": variant("RGB", "JPEG"),
    "jpeg grey": variant("L", "JPEG"),
    "jpeg cmyk": variant("CMYK", "JPEG"),
    "jpeg progressive": variant("RGB", "JPEG", progressive=True, quality=95),
    "jpeg grey progressive": variant("L", "JPEG", progressive=True),
    "jpeg 4:4:4": variant("RGB", "JPEG", subsampling=0, quality=100),
    "jpeg restart markers": variant("RGB", "JPEG", restart_marker_blocks=1),
    "jpeg rotated by exif": variant(
        "RGB",
        "JPEG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ),
    "jpeg thumbnail": jpeg_with_thumbnail,
    "jpeg fill bytes": jpeg_with_fill_bytes,
    "png rgb": variant("RGB", "PNG"),
    "png rgba": variant("RGBA", "PNG"),
    "png grey and alpha": variant("LA", "PNG"),
    "png grey": variant("L", "PNG"),
    "png palette": variant("P", "PNG"),
    "png palette of 4": variant("P", "PNG", bits=2),
    "png transparent palette": variant("P", "PNG", transparency=3),
    "png 1 bit": variant("1", "PNG"),
    "png 16-bit grey": png16(1),
    "png 16-bit rgb": png16(3),
    "png 16-bit rgba": png16(4),
    "png interlaced": interlaced_png,
    "gif": variant("P", "GIF"),
    "gif grey": variant("L", "GIF"),
    "gif animated": animated("GIF"),
    "bmp 24": variant("RGB", "BMP"),
    "bmp 32": variant("RGBA", "BMP"),
    "bmp grey": variant("L", "BMP"),
    "bmp top-down": top_down_bmp,
    "webp lossy": variant("RGB", "WEBP"),
    "webp lossless": variant("RGB", "WEBP", lossless=True),
    "webp with exif": variant("RGB", "WEBP", exif=b"Exif\0\0" + b"x" * 20),
}

WEBP_WITH_ALPHA: dict[str, Callable[[int, int], bytes]] = {
    "webp lossy alpha": variant("RGBA", "WEBP"),
    "webp lossless alpha": variant("RGBA", "WEBP", lossless=True, exact=True),
}

ANIMATED_WEBP: dict[str, Callable[[int, int], bytes]] = {
    "webp animated": animated("WEBP", lossless=True),
    "webp animated alpha": animated("WEBP", "RGBA", lossless=True, exact=True),
}


def tensorflow_pixels(data: bytes) -> np.ndarray:
    import tensorflow as tf

    return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()


def mutated(seed: int) -> bytes:
    """An image with one to eight changes, mostly in its first bytes; PNGs get their CRCs right."""
    chance = random.Random(seed)
    encoders = list((VARIANTS | WEBP_WITH_ALPHA | ANIMATED_WEBP).values())
    data = bytearray(_unharmed(encoders[seed % len(encoders)]))
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        if not data:
            break
        at = chance.randrange(min(len(data), chance.choice([40, 64, len(data), len(data)])))
        change = chance.randrange(5)
        if change == 0:
            data[at] = chance.randrange(256)
        elif change == 1:
            data[at] ^= 1 << chance.randrange(8)
        elif change == 2:
            data[at] = chance.choice([0, 127, 128, 255])
        elif change == 3:
            data[at : at + chance.randrange(9)] = chance.randbytes(chance.choice([0, 3, 8]))
        else:
            data[at:] = data[at:][: chance.choice([1, 30, 10**6])] * chance.choice([1, 1, 2])
    return _with_right_crcs(bytes(data)) if chance.random() < 0.7 else bytes(data)


@functools.cache
def _unharmed(encode: Callable[[int, int], bytes]) -> bytes:
    return encode(24, 19)


def _with_right_crcs(data: bytes) -> bytes:
    if not data.startswith(b"\x89PNG"):
        return data
    chunks, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append(png_chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join(chunks)
