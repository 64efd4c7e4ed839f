"""JPEG: TensorFlow's exact pixels from libjpeg-turbo, and what `decode="fast"` may change."""

from __future__ import annotations

import itertools
import pathlib
import re
import struct
from collections.abc import Iterator

import numpy as np
import PIL.Image
import pytest
import simplejpeg

from benchmarks.images import PHOTOS
from tests.helpers.encoded_images import (
    ANIMATED_WEBP,
    VARIANTS,
    WEBP_WITH_ALPHA,
    image,
    mutated,
    saved,
    tensorflow_pixels,
)
from tests.helpers.vectors import cosine
from transforms.errors import ImageError, UnsupportedImageError
from transforms.images import jpeg
from transforms.images.decode import decode_image, read_header
from transforms.images.resize import to_float
from transforms.images.spec import ImageSpec
from transforms.models import builtin

ENCODINGS: dict[str, dict[str, object]] = {
    **{
        f"quality {quality}, 4:{sampled}": {"quality": quality, "subsampling": f"4:{sampled}"}
        for quality in (60, 95, 100)
        for sampled in ("4:4", "2:2", "2:0")
    },
    "progressive": {"progressive": True},
    "progressive 4:4:4": {"progressive": True, "quality": 95, "subsampling": "4:4:4"},
    "restart markers": {"restart_marker_blocks": 5},
    "own Huffman tables": {"optimize": True},
    "RGB, not YCbCr": {"keep_rgb": True},
}


# Building JPEGs


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def split(data: bytes, marker: int) -> tuple[bytes, bytes, bytes]:
    """What comes before the first segment with a marker, its body, and what comes after."""
    at = data.index(bytes([0xFF, marker]))
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data[:at], data[at + 4 : end], data[end:]


def sampled(height: int, width: int, factors: list[tuple[int, int]]) -> bytes:
    """A JPEG with the given (horizontal, vertical) sampling factors of its components.

    The blocks are those of a grey JPEG: what is coded is a sequence of blocks, and the frame header
    says to which component each belongs (ITU T.81, A.2).
    """
    across, down = (8 * max(factor[axis] for factor in factors) for axis in (0, 1))
    blocks = -(-width // across) * -(-height // down) * sum(h * v for h, v in factors)
    noise = np.random.default_rng(blocks).integers(0, 60, (8 * blocks, 8))
    pixels = (noise + np.linspace(40, 180, 8 * blocks)[:, np.newaxis]).astype(np.uint8)
    before, _, after = split(saved(PIL.Image.fromarray(pixels), "JPEG"), 0xC0)
    between, _, scan = split(after, 0xDA)
    count = len(factors)
    components = b"".join(bytes([i, h << 4 | v, 0]) for i, (h, v) in enumerate(factors))
    frame = struct.pack(">BHHB", 8, height, width, count) + components
    order = bytes([count]) + b"".join(bytes([i, 0]) for i in range(count)) + b"\0\x3f\0"
    return before + segment(0xC0, frame) + between + segment(0xDA, order) + scan


def lossless(height: int, width: int) -> bytes:
    """A grey rectangle as lossless JPEG: each difference is the code 00 (ITU T.81, annex H)."""
    _, table, _ = split(saved(image(8, 8, "L"), "JPEG"), 0xC4)
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"R\x11\0G\x11\0B\x11\0"
    differences = bytes(height * width * 3 * 2 // 8)
    scan = segment(0xDA, b"\x03R\0G\0B\0\x01\0\0") + differences
    return b"\xff\xd8" + segment(0xC4, table) + segment(0xC3, frame) + scan + b"\xff\xd9"


def ycck(height: int, width: int) -> bytes:
    """A CMYK JPEG whose Adobe marker says that it is YCCK."""
    before, adobe, after = split(saved(image(height, width, "CMYK"), "JPEG"), 0xEE)
    return before + segment(0xEE, adobe[:-1] + b"\x02") + after


def arithmetic(height: int, width: int) -> bytes:
    """Says that it is coded arithmetically; what it then decodes to does not matter."""
    return saved(image(height, width), "JPEG").replace(b"\xff\xc0", b"\xff\xc9")


def at_megapixels(path: pathlib.Path, megapixels: float | None) -> bytes:
    """A photo as a JPEG of quality 90, enlarged or reduced."""
    with PIL.Image.open(path) as photo:
        photo = photo.convert("RGB")
    if megapixels:
        ratio = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
        size = round(photo.width * ratio), round(photo.height * ratio)
        photo = photo.resize(size, PIL.Image.Resampling.LANCZOS)
    return saved(photo, "JPEG", quality=90)


def exact_pixels(data: bytes) -> np.ndarray | None:
    return jpeg.exact_pixels(data, read_header(data))


def fast_pixels(data: bytes, height: int, width: int) -> np.ndarray | None:
    return jpeg.fast_pixels(data, read_header(data), height, width)


def outcome(data: bytes, spec: ImageSpec) -> str:
    """What becomes of an image, without its pixels."""
    try:
        decoded = decode_image(data, spec)
    except ImageError as error:
        return f"{type(error).__name__}: {error}"
    return f"{decoded.width}×{decoded.height}"


# Exact pixels


@pytest.mark.parametrize("name", ENCODINGS)
def test_photos_have_tensorflows_pixels_without_asking_it(name: str, photos: list[pathlib.Path]):
    for number, path in enumerate(photos):
        with PIL.Image.open(path) as photo:
            odd = photo.crop((0, 0, photo.width - number % 16, photo.height - number % 7))
            for mode in ("RGB", "L"):
                options = ENCODINGS[name] if mode == "RGB" else ENCODINGS[name] | {"subsampling": 0}
                data = saved(odd.convert(mode), "JPEG", **options)
                pixels = exact_pixels(data)
                assert pixels is not None
                assert np.array_equal(pixels, tensorflow_pixels(data)), path.name


def test_every_way_to_sample_the_colours_has_tensorflows_pixels():
    decoded = []
    for horizontal, vertical in itertools.product((1, 2, 3, 4), (1, 2, 3, 4)):
        for chroma in {(1, 1), (1, vertical), (horizontal, 1), (horizontal, vertical)}:
            factors = [(horizontal, vertical), chroma, chroma]
            if sum(h * v for h, v in factors) > 10:  # not allowed (ITU T.81, B.2.3)
                continue
            data = sampled(29, 37, factors)
            pixels = exact_pixels(data)
            if pixels is not None:
                decoded.append(factors)
                assert np.array_equal(pixels, tensorflow_pixels(data)), factors
    for usual in [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)]:
        assert [usual, (1, 1), (1, 1)] in decoded


def test_a_damaged_jpeg_has_tensorflows_pixels_or_is_left_to_it():
    decoded = 0
    for seed in range(3000):
        data = mutated(seed)
        try:
            header = read_header(data)
        except ImageError:
            continue
        if header.format != "JPEG" or not 0 < header.width * header.height < 10**6:
            continue
        pixels = jpeg.exact_pixels(data, header)
        if pixels is not None:
            decoded += 1
            assert np.array_equal(pixels, tensorflow_pixels(data)), seed
    assert decoded > 50


UNUSUAL = {
    "CMYK": VARIANTS["jpeg cmyk"](64, 64),
    "YCCK": ycck(64, 64),
    "arithmetic": arithmetic(64, 64),
    "lossless": lossless(64, 64),
    "cut off": saved(image(64, 64), "JPEG")[:-40],
    "sampled strangely": sampled(64, 64, [(1, 1), (1, 2), (2, 1)]),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_jpeg_is_left_to_tensorflow(name: str):
    data = UNUSUAL[name]
    assert exact_pixels(data) is None
    assert fast_pixels(data, 8, 8) is None
    exact, fast = ImageSpec(8, 8), ImageSpec(8, 8, decode="fast")
    assert outcome(data, fast) == outcome(data, exact)
    if outcome(data, exact) == "64×64":
        assert np.array_equal(decode_image(data, fast).pixels, decode_image(data, exact).pixels)


def with_frame(marker: int, precision: int) -> bytes:
    """A JPEG whose frame header says another process or other bits a sample."""
    before, frame, after = split(saved(image(64, 64), "JPEG"), 0xC0)
    return before + segment(marker, bytes([precision]) + frame[1:]) + after


@pytest.mark.parametrize(
    ("data", "variant"),
    [
        # Scaling one, libjpeg-turbo 3.1.2 would write past its buffer.
        (lossless(512, 512), "a lossless JPEG"),
        (with_frame(0xC3, 16), "a lossless JPEG"),
        (with_frame(0xC1, 12), "a 12-bit JPEG"),
        (with_frame(0xC2, 12), "a 12-bit JPEG"),
        (with_frame(0xC5, 8), "a hierarchical JPEG"),
        (with_frame(0xF7, 8), "JPEG-LS"),
    ],
    ids=["lossless", "lossless 16-bit", "12-bit", "progressive 12-bit", "hierarchical", "JPEG-LS"],
)
@pytest.mark.parametrize("decode", ["exact", "fast"])
def test_a_jpeg_that_tensorflow_refuses_is_named(data: bytes, variant: str, decode, capfd):
    with pytest.raises(UnsupportedImageError, match=f"^{variant}; "):
        decode_image(data, ImageSpec(8, 8, decode=decode))
    assert capfd.readouterr().err == ""


# Warnings


def flipped(data: bytes, wanted: int = 3) -> Iterator[bytes]:
    """The JPEG with one flipped bit of its coded data, where libjpeg warns and decodes it."""
    start = data.index(b"\xff\xda")
    for at in range(start + 20, len(data) - 2):
        damaged = bytearray(data)
        damaged[at] ^= 0x40
        if 0xFF in (data[at - 1], data[at], damaged[at]):
            continue  # that would be another marker
        try:
            simplejpeg.decode_jpeg(bytes(damaged), fastdct=True, strict=True)
        except ValueError:
            yield bytes(damaged)
            wanted -= 1
        if not wanted:
            return


@pytest.mark.parametrize("decode", ["exact", "fast"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_damaged_jpeg_that_decodes_has_a_warning(decode, progressive: bool, capfd):
    data = saved(image(64, 64), "JPEG", progressive=progressive)
    assert decode_image(data, ImageSpec(64, 64, decode=decode)).warnings == ()
    found = list(flipped(data))
    assert len(found) == 3
    for damaged in found:
        decoded = decode_image(damaged, ImageSpec(64, 64, decode=decode))
        assert np.array_equal(decoded.pixels, tensorflow_pixels(damaged))
        capfd.readouterr()  # of the line before
        [warning, *_] = decode_image(damaged, ImageSpec(8, 8, decode=decode)).warnings
        assert warning.kind == "jpeg"
        assert re.match("Corrupt JPEG data|Premature end|Inconsistent progression", warning.message)
        assert capfd.readouterr().err == ""


def test_a_damaged_jpeg_of_an_unusual_kind_has_a_warning_too(capfd):
    cmyk = UNUSUAL["CMYK"]
    for data in (arithmetic(64, 64), cmyk[:200] + b"\x12\x34\x56" + cmyk[200:]):
        try:
            decoded = decode_image(data, ImageSpec(8, 8))
        except ImageError:
            continue
        assert [w.kind for w in decoded.warnings] == ["jpeg"]
    assert decode_image(cmyk, ImageSpec(8, 8)).warnings == ()
    assert capfd.readouterr().err == ""


# Fast


@pytest.mark.parametrize(
    ("size", "target", "decoded"),
    [
        ((3000, 4000), (224, 224), (750, 1000)),
        ((3585, 3585), (224, 224), (449, 449)),
        ((3000, 4000), (187, 250), (375, 500)),
        ((3000, 4000), (188, 250), (750, 1000)),
        ((896, 1000), (224, 224), (448, 500)),
        ((895, 1000), (224, 224), (448, 500)),
        ((894, 1000), (224, 224), (894, 1000)),
        ((375, 500), (224, 224), (375, 500)),
        ((100, 4000), (8, 8), (25, 1000)),
        ((4000, 20), (8, 8), (4000, 20)),
        ((1, 1), (224, 224), (1, 1)),
        ((1, 1), (1, 1), (1, 1)),
        ((17, 19), (1, 1), (3, 3)),
    ],
)
def test_fast_pixels_cover_the_models_input_twice(
    size: tuple[int, int], target: tuple[int, int], decoded: tuple[int, int]
):
    height, width = size
    for mode in ("RGB", "L"):
        for progressive in (False, True):
            flat = PIL.Image.new(mode, (width, height), 77)
            data = saved(flat, "JPEG", progressive=progressive)
            pixels = fast_pixels(data, *target)
            assert pixels is not None and pixels.shape == (*decoded, 3)
            assert np.ptp(pixels.reshape(-1, 3), axis=0).max() <= 1
            result = decode_image(data, ImageSpec(*target, decode="fast"))
            assert (result.height, result.width) == size
            assert result.pixels.shape == (*target, 3)
            assert result.pixels.dtype == (np.uint8 if size == target else np.float32)


def test_a_jpeg_that_is_cut_off_is_corrupt_however_it_is_decoded():
    for name in ("jpeg rgb", "jpeg grey", "jpeg progressive", "jpeg 4:4:4", "jpeg restart markers"):
        data = VARIANTS[name](80, 60)
        for cut in [*(len(data) * part // 16 for part in range(1, 16)), len(data) - 2]:
            exact = outcome(data[:cut], ImageSpec(8, 8))
            assert exact.startswith("CorruptImageError: ")
            assert outcome(data[:cut], ImageSpec(8, 8, decode="fast")) == exact


def test_the_outcome_of_a_damaged_image_does_not_depend_on_how_it_is_decoded():
    limits = {"max_pixels": 1_000_000}
    for seed in range(1500):
        data = mutated(seed)
        exact = outcome(data, ImageSpec(3, 3, **limits))
        assert outcome(data, ImageSpec(3, 3, decode="fast", **limits)) == exact, seed


@pytest.mark.parametrize(
    "name",
    [n for n in VARIANTS | WEBP_WITH_ALPHA | ANIMATED_WEBP if not n.startswith("jpeg")],
)
def test_other_formats_are_the_same(name: str):
    data = (VARIANTS | WEBP_WITH_ALPHA | ANIMATED_WEBP)[name](64, 48)
    exact = decode_image(data, ImageSpec(8, 8)).pixels
    assert np.array_equal(decode_image(data, ImageSpec(8, 8, decode="fast")).pixels, exact)


@pytest.mark.parametrize("megapixels", [None, 1, 3, 12])
def test_fast_vectors_of_photos_stay_close(megapixels: float | None, photos: list[pathlib.Path]):
    import tensorflow as tf
    import tensorflow_hub as hub

    model = hub.load(builtin.exported("feature_vector"))
    vectors: dict[str, list[np.ndarray]] = {"exact": [], "fast": []}
    for path in photos:
        if path.name in PHOTOS:
            data = at_megapixels(path, megapixels)
            for decode, those in vectors.items():
                pixels = decode_image(data, ImageSpec(*builtin.IMAGE_SIZE, decode=decode)).pixels
                floats = to_float(pixels) if pixels.dtype == np.uint8 else pixels
                those.append(model(tf.constant(floats[np.newaxis]))[0].numpy())
    cosines = [cosine(*pair) for pair in zip(vectors["exact"], vectors["fast"], strict=True)]
    size = f"{megapixels} megapixels" if megapixels else "their own size"
    print(
        f"--decode fast, {len(cosines)} photos of {size}: cosine "
        f"mean {np.mean(cosines):.4f}, median {np.median(cosines):.4f}, min {min(cosines):.4f}"
    )
    assert len(cosines) == len(PHOTOS)
    assert np.mean(cosines) >= 0.99
    assert min(cosines) >= 0.97
