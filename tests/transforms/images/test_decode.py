"""Images: the exact pixels of `tf.image`, whatever the format, and a named error for the rest."""

from __future__ import annotations

import io
import pathlib
import struct
import sys
import time
import tracemalloc

import numpy as np
import PIL.Image
import pytest

from tests.helpers.commands import Finished, run
from tests.helpers.encoded_images import (
    ANIMATED_WEBP,
    VARIANTS,
    WEBP_WITH_ALPHA,
    animated,
    bmp,
    image,
    mutated,
    png_of_size,
    rgba_pixels,
    saved,
    tensorflow_pixels,
)
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


def run_in_a_process_of_its_own(call: str) -> Finished:
    code = f"from tests.transforms.images import test_decode as t; t.{call}"
    return run([sys.executable, "-X", "faulthandler", "-c", code])


def test_a_process_survives_hundreds_of_animated_webps():
    done = run_in_a_process_of_its_own("decode_animated_webps()")
    assert done.code == 0, done.err[-2000:]


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
    started = time.process_time()
    text = message(ImageTooLargeError, png_of_size(60_000, 60_000))
    assert time.process_time() - started < 1
    assert "60000×60000" in text
    assert " over max_pixels " in text


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
    last = done.out.split()[-1:] or ["none"]
    assert done.code == 0, f"mutated({last[0]}): {done.err[-2000:]}"
