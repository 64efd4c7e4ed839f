"""Images: the exact pixels of `tf.image`, whatever the format, and a named error for the rest."""

from __future__ import annotations

import functools
import io
import pathlib
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import PIL.Image
import pytest

from transforms.errors import (
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    NotAnImageError,
    UnsupportedImageError,
)
from transforms.images.decode import decode_image, read_header, resize
from transforms.images.resize import to_float
from transforms.images.spec import ImageSpec

ROOT = pathlib.Path(__file__).parents[3]

# (height, width) of a source and of the model's input: down, up, both, single pixels and lines.
RESIZES = [
    ((23, 17), (9, 5)),
    ((23, 17), (64, 48)),
    ((23, 17), (31, 8)),
    ((1, 1), (7, 5)),
    ((1, 30), (16, 16)),
    ((30, 1), (1, 1)),
]
SPEC = ImageSpec(8, 8)

ADAM7 = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]


# Building images


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


def tensorflow_resized(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    import tensorflow as tf

    floats = tf.image.convert_image_dtype(rgb, tf.float32)
    return tf.image.resize(floats, (height, width)).numpy()


def message(error: type[ImageError], data: bytes, spec: ImageSpec = SPEC) -> str:
    """What `decode_image` says; `error` itself, not a subclass, must be raised."""
    with pytest.raises(ImageError) as caught:
        decode_image(data, spec)
    assert caught.type is error
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


# Pixels


@pytest.mark.parametrize("name", VARIANTS)
def test_resized_pixels_are_tensorflows_bit_for_bit(name: str):
    for source, target in RESIZES:
        data = VARIANTS[name](*source)
        expected = tensorflow_resized(tensorflow_pixels(data), *target)
        decoded = decode_image(data, ImageSpec(*target))
        assert decoded.pixels.dtype == np.float32
        assert np.array_equal(decoded.pixels, expected), (source, target)
        assert (decoded.height, decoded.width) == source


@pytest.mark.parametrize("name", VARIANTS)
def test_an_image_of_the_models_size_keeps_its_bytes(name: str):
    data = VARIANTS[name](23, 17)
    decoded = decode_image(data, ImageSpec(23, 17))
    assert decoded.pixels.dtype == np.uint8
    assert np.array_equal(decoded.pixels, tensorflow_pixels(data))
    expected = tensorflow_resized(tensorflow_pixels(data), 23, 17)
    assert np.array_equal(to_float(decoded.pixels), expected)


def test_real_photos_have_tensorflows_pixels(photos: list[pathlib.Path]):
    for path in photos:
        data = path.read_bytes()
        rgb = tensorflow_pixels(data)
        decoded = decode_image(data, ImageSpec(224, 192))
        assert np.array_equal(decoded.pixels, tensorflow_resized(rgb, 224, 192)), path.name
        assert (decoded.height, decoded.width) == rgb.shape[:2]


@pytest.mark.parametrize("name", WEBP_WITH_ALPHA)
def test_the_alpha_of_a_webp_is_dropped_without_blending(name: str):
    import tensorflow as tf

    for source, target in [*RESIZES, ((23, 17), (23, 17))]:
        data = WEBP_WITH_ALPHA[name](*source)
        rgba = tf.io.decode_image(data, expand_animations=False).numpy()
        assert rgba.shape == (*source, 4)
        expected = tensorflow_resized(rgba[:, :, :3], *target)
        pixels = decode_image(data, ImageSpec(*target)).pixels
        assert np.array_equal(pixels if source != target else to_float(pixels), expected)


def test_transparent_pixels_of_a_png_keep_their_colour():
    rgba = rgba_pixels(9, 8)
    rgba[:, :, 3] = 0
    data = saved(PIL.Image.fromarray(rgba), "PNG")
    assert np.array_equal(decode_image(data, ImageSpec(9, 8)).pixels, rgba[:, :, :3])


def test_16_bit_pngs_keep_their_high_byte():
    import tensorflow as tf

    values = np.random.default_rng(0).integers(0, 65536, (9, 8, 3)).astype(np.uint16)
    decoded = decode_image(tf.io.encode_png(values).numpy(), ImageSpec(9, 8))
    assert np.array_equal(decoded.pixels, values >> 8)


def test_of_an_animated_gif_the_first_frame_is_used():
    data = animated("GIF")(23, 17)
    with PIL.Image.open(io.BytesIO(data)) as gif:
        assert gif.n_frames == 4
        first = np.asarray(gif.convert("RGB"))
    assert np.array_equal(decode_image(data, ImageSpec(23, 17)).pixels, first)


@pytest.mark.parametrize("name", ANIMATED_WEBP)
def test_of_an_animated_webp_the_first_frame_is_used(name: str):
    data = ANIMATED_WEBP[name](23, 17)
    assert read_header(data).animated
    first = rgba_pixels(23, 17)[:, :, :3]
    assert np.array_equal(decode_image(data, ImageSpec(23, 17)).pixels, first)
    resized = decode_image(data, ImageSpec(9, 31)).pixels
    assert np.array_equal(resized, tensorflow_resized(first, 9, 31))


def decode_animated_webps() -> None:
    """Runs in a process of its own: TensorFlow would corrupt this process's memory."""
    first = rgba_pixels(23, 17)[:, :, :3]
    for data in [encode(23, 17) for encode in ANIMATED_WEBP.values()] * 200:
        assert np.array_equal(decode_image(data, ImageSpec(23, 17)).pixels, first)


def test_a_process_survives_hundreds_of_animated_webps():
    done = run_in_a_process_of_its_own("decode_animated_webps()")
    assert done.returncode == 0, done.stderr[-2000:]


def run_in_a_process_of_its_own(call: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-X",
            "faulthandler",
            "-c",
            f"from tests.transforms.images import test_decode as t; t.{call}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_bytes_become_floats_as_convert_image_dtype_makes_them():
    import tensorflow as tf

    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_float(every), tf.image.convert_image_dtype(every, tf.float32).numpy())


@pytest.mark.parametrize("seed", range(4))
def test_resizing_is_bit_equal_to_converting_the_whole_image(seed: int):
    shapes = np.random.default_rng(seed)
    corners = [(1, 1, 1, 1), (1, 1, 9, 4), (1, 7, 5, 5), (7, 1, 5, 5), (2, 2, 224, 3)]
    for height, width, out_height, out_width in [
        *corners,
        *shapes.integers(1, 90, (100, 4)).tolist(),
        *shapes.integers(1, 700, (5, 4)).tolist(),
    ]:
        rgb = shapes.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = tensorflow_resized(rgb, out_height, out_width)
        resized = resize(rgb, out_height, out_width)
        assert resized.dtype == np.float32
        assert np.array_equal(resized, expected), (height, width, out_height, out_width)


@pytest.mark.parametrize("shape", [(1741, 1733), (900, 4001), (8, 400_001)])
def test_large_images_are_resized_bit_for_bit_too(shape: tuple[int, int]):
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for target in [(224, 224), (3, 501), (1, 1)]:
        expected = tensorflow_resized(rgb, *target)
        assert np.array_equal(resize(rgb, *target), expected)


def test_resizing_a_wide_image_takes_memory_for_the_pixels_that_it_needs():
    rgb = np.zeros((1, 3_000_000, 3), np.uint8)
    tracemalloc.start()
    try:
        resize(rgb, 224, 224)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2**20


def test_a_large_jpeg_has_tensorflows_pixels():
    data = saved(image(1741, 1733), "JPEG")
    expected = tensorflow_resized(tensorflow_pixels(data), 260, 240)
    assert np.array_equal(decode_image(data, ImageSpec(260, 240)).pixels, expected)


def test_rounded_pixels_are_within_half_a_step():
    for name in ("jpeg rgb", "png rgba", "gif", "webp lossy"):
        for source, target in RESIZES:
            data = VARIANTS[name](*source)
            exact = decode_image(data, ImageSpec(*target)).pixels
            rounded = decode_image(data, ImageSpec(*target, pixels="uint8")).pixels
            assert rounded.dtype == np.uint8
            assert np.abs(rounded - exact.astype(np.float64) * 255).max() <= 0.5 + 1e-4


# Headers


@pytest.mark.parametrize("name", [*VARIANTS, *WEBP_WITH_ALPHA, *ANIMATED_WEBP])
def test_headers_say_what_pillow_says(name: str):
    encode = (VARIANTS | WEBP_WITH_ALPHA | ANIMATED_WEBP)[name]
    for height, width in [(1, 1), (13, 7), (300, 257)]:
        data = encode(height, width)
        header = read_header(data)
        with PIL.Image.open(io.BytesIO(data)) as picture:
            assert header.format.upper() == picture.format
            assert (header.width, header.height) == picture.size == (width, height)
        assert header.animated == (name in ANIMATED_WEBP)


def test_sizes_over_one_byte_are_read_from_every_header():
    sizes = [("JPEG", 65_500), ("PNG", 70_000), ("GIF", 65_535), ("BMP", 70_000), ("WEBP", 16_383)]
    for file_format, width in sizes:
        data = saved(
            PIL.Image.new("L" if file_format != "WEBP" else "RGB", (width, 2)), file_format
        )
        assert (read_header(data).width, read_header(data).height) == (width, 2), file_format
    lossless = saved(PIL.Image.new("RGB", (2, 16_383)), "WEBP", lossless=True)
    assert (read_header(lossless).width, read_header(lossless).height) == (2, 16_383)


# Errors


def test_no_bytes_are_an_empty_image():
    message(EmptyImageError, b"")


@pytest.mark.parametrize("data", [b"This is not a photo.\n", b"\0" * 64, b"\xff\xd8", b"GIF", b"{"])
def test_other_bytes_are_not_an_image_and_are_shown(data: bytes):
    assert repr(data[:16]) in message(NotAnImageError, data)


def test_a_file_of_html_is_not_an_image():
    assert "<!doctype html>" in message(NotAnImageError, b"<!doctype html><p>404</p>")


OTHER_FORMATS = {
    "TIFF": [
        saved(image(5, 4), "TIFF"),
        saved(image(5, 4), "TIFF", big_tiff=True),
        b"MM\0*\0\0\0\x08" + bytes(40),
    ],
    "AVIF": [saved(image(16, 16), "AVIF")],
    "HEIC": [b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)],
    "JPEG XL": [b"\xff\x0a" + bytes(40), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)],
    "JPEG 2000": [b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40)],
    "PDF": [saved(image(5, 4), "PDF")],
    "ICO": [saved(image(16, 16), "ICO")],
    "Photoshop": [b"8BPS\0\x01" + bytes(40)],
    "SVG": [
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b'<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    ],
}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param(name, data, id=f"{name} {number}")
        for name, datas in OTHER_FORMATS.items()
        for number, data in enumerate(datas)
    ],
)
def test_a_format_that_is_not_decoded_is_named(name: str, data: bytes):
    text = message(UnsupportedImageError, data)
    assert name in text
    assert "PNG" in text  # says what would do


@pytest.mark.parametrize("name", [*VARIANTS, *WEBP_WITH_ALPHA, *ANIMATED_WEBP])
def test_an_image_that_is_cut_off_is_corrupt(name: str):
    data = (VARIANTS | WEBP_WITH_ALPHA | ANIMATED_WEBP)[name](40, 30)
    if name == "gif animated":
        data = data[: len(data) // 4]  # the first frame alone must be whole
    header_cuts = [14, 18, 21, 25, 29]
    body_cuts = [len(data) * part // 8 for part in range(1, 8)]
    for cut in [*header_cuts, *body_cuts, len(data) - 12, len(data) - 2]:
        message(CorruptImageError, data[:cut])


def test_a_cut_off_image_is_told_apart_by_its_format():
    for name in ("jpeg rgb", "png rgb", "gif", "bmp 24", "webp lossy"):
        data = VARIANTS[name](40, 30)
        assert read_header(data).format in message(CorruptImageError, data[: len(data) // 2])


def test_a_damaged_png_is_corrupt():
    data = bytearray(VARIANTS["png rgb"](40, 30))
    data[len(data) // 2] ^= 0x55
    message(CorruptImageError, bytes(data))


def test_an_image_without_pixels_is_corrupt():
    jpeg = saved(image(8, 8), "JPEG")
    frame = b"\x08\0\x08\0\x08\x03"
    assert frame in jpeg
    for data in [
        png_of_size(0, 5),
        png_of_size(5, 0),
        b"GIF89a" + bytes(30),
        bmp(b"", 0, 5, 24),
        bmp(b"", 5, 0, 24),
        jpeg.replace(frame, b"\x08\0\0\0\x08\x03"),
        jpeg.replace(frame, b"\x08\0\x08\0\0\x03"),
    ]:
        message(CorruptImageError, data)


def test_a_bomb_is_refused_before_it_is_decoded():
    started = time.perf_counter()
    text = message(ImageTooLargeError, png_of_size(60_000, 60_000))
    assert time.perf_counter() - started < 1
    assert "60000×60000" in text
    assert "--max_pixels" in text


def test_the_pixel_limit_itself_is_allowed():
    for name in ("jpeg rgb", "png rgb", "gif", "bmp 24", "webp lossy"):
        data = VARIANTS[name](20, 30)
        decode_image(data, ImageSpec(8, 8, max_pixels=600))
        assert "30×20" in message(ImageTooLargeError, data, ImageSpec(8, 8, max_pixels=599))


@pytest.mark.parametrize("name", ["gif", "gif animated"])
def test_a_gif_frame_larger_than_its_screen_counts_against_the_pixel_limit(name: str):
    data = VARIANTS[name](50, 50)
    small_screen = data[:6] + struct.pack("<HH", 10, 10) + data[10:]
    message(ImageTooLargeError, small_screen, ImageSpec(8, 8, max_pixels=2000))


def test_every_frame_of_a_gif_counts_against_the_pixel_limit():
    """TensorFlow allocates for the largest, even where only the first is wanted."""
    small, large = VARIANTS["gif grey"](10, 10), VARIANTS["gif grey"](50, 50)
    colours = 3 << (large[10] & 7) + 1
    both = small[:-1] + large[13 + colours :]
    message(ImageTooLargeError, both, ImageSpec(8, 8, max_pixels=2000))


def test_a_huge_animated_webp_is_an_image_error_whatever_the_pixel_limit():
    data = bytearray(ANIMATED_WEBP["webp animated"](23, 17))
    data[24:30] = (16_383 - 1).to_bytes(3, "little") * 2
    with pytest.raises(ImageError):
        decode_image(bytes(data), ImageSpec(8, 8, max_pixels=10**10))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(image(9, 8, "P"), "BMP"), id="palette"),
        pytest.param(saved(image(9, 8, "1"), "BMP"), id="1 bit"),
        pytest.param(bmp(b"\x08\x05\0\0" * 9 + b"\0\x01", 8, 9, 8, 1), id="run lengths"),
        pytest.param(bmp(bytes(16 * 9), 8, 9, 16), id="16 bit"),
        pytest.param(
            bmp(bytes(64), 8, 8, 8, after_header=bytes(range(255, -1, -1)).hex(" ").encode()),
            id="not a grey palette",
        ),
        pytest.param(
            bmp(bytes(16), 4, 4, 8, after_header=b"\0\0\0\0\xff\xff\xff\0"), id="black and white"
        ),
        pytest.param(
            b"BM" + struct.pack("<IHHIIHHHH", 26 + 12, 0, 0, 26, 12, 2, 2, 1, 24) + bytes(12),
            id="OS/2",
        ),
    ],
)
def test_a_bmp_that_tensorflow_would_misread_is_unsupported(data: bytes):
    assert "convert it to PNG" in message(UnsupportedImageError, data)


BGRA_MASKS = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
RGBA_MASKS = struct.pack("<4I", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)


def test_a_bmp_with_the_usual_colour_masks_is_decoded():
    bgra = rgba_pixels(9, 8)
    data = bmp(bgra.tobytes(), 8, -9, 32, 3, BGRA_MASKS, info_size=56)
    assert np.array_equal(decode_image(data, ImageSpec(9, 8)).pixels, bgra[:, :, 2::-1])


def test_a_bmp_with_other_colour_masks_never_gets_other_colours():
    data = bmp(rgba_pixels(9, 8).tobytes(), 8, -9, 32, 3, RGBA_MASKS, info_size=56)
    assert "convert it to PNG" in message(UnsupportedImageError, data)


# Damage of any kind


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


def decode_mutated_images(seeds: int) -> None:
    """Runs in a process of its own: what is printed last is the seed that it died of."""
    spec = ImageSpec(8, 8, max_pixels=1_000_000)
    decoded = 0
    for seed in range(seeds):
        print(seed, flush=True)
        data = mutated(seed)
        try:
            pixels = decode_image(data, spec).pixels
        except ImageError as error:
            assert str(error)
            continue
        assert pixels.shape == (8, 8, 3)
        assert pixels.min() >= 0
        assert pixels.max() <= 1
        decoded += 1
    assert seeds // 20 < decoded < seeds * 19 // 20  # neither harmless nor hopeless


def test_a_mutated_image_is_pixels_or_an_image_error():
    done = run_in_a_process_of_its_own("decode_mutated_images(800)")
    last = done.stdout.split()[-1:] or ["none"]
    assert done.returncode == 0, f"mutated({last[0]}): {done.stderr[-2000:]}"
