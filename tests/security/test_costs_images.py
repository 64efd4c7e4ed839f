"""Images that are small and would cost much: an error that says which limit, or no such cost."""

from __future__ import annotations

import concurrent.futures
import ctypes
import io
import struct
import types
from collections.abc import Callable

import numpy as np
import PIL.Image
import pytest

from tests.helpers.encoded_images import image, png_chunk, saved, tensorflow_pixels
from tests.helpers.limits import within_limits
from transforms.errors import CorruptImageError, UnsupportedImageError
from transforms.images import decode, jpeg, png
from transforms.images.decode import decode_image
from transforms.images.headers import read_header
from transforms.images.spec import ImageSpec

MIB = 2**20
SPEC = ImageSpec(16, 16)


def refused(make: Callable[[], bytes]) -> str:
    """What the header of an image that is made within the limits is refused for."""
    try:
        read_header(make())
    except UnsupportedImageError as error:
        return str(error)
    return "nothing"


# JPEGs of many markers; each was walked in Python, or read through by libjpeg for each scan


def jpeg_bytes(**options: object) -> bytes:
    return saved(image(16, 16), "JPEG", **options)


def with_comments() -> bytes:
    """12 million in 50 MB took 10 s."""
    return b"\xff\xd8" + b"\xff\xfe\0\2" * (4 * MIB) + jpeg_bytes()[2:]


def with_restarts() -> bytes:
    """25 million in 50 MB took 18 s."""
    return b"\xff\xd8\xff\xe0\0\2" + b"\xff\xd0" * (8 * MIB) + jpeg_bytes()[2:]


def with_comments_between_scans() -> bytes:
    data = jpeg_bytes(progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + b"\xff\xfe\0\2" * (4 * MIB) + data[at:]


@pytest.mark.parametrize("make", [with_comments, with_restarts, with_comments_between_scans])
def test_a_jpeg_of_millions_of_markers_is_refused(make):
    told = "a JPEG of more than 10,000 marker segments; encode it anew"
    assert within_limits(refused, make, seconds=5) == told


def test_a_jpeg_of_some_hundred_markers_is_decoded():
    data = jpeg_bytes()
    noted = b"\xff\xd8" + (b"\xff\xe2\xff\xff" + bytes(0xFFFD)) * 255 + data[2:]
    assert np.array_equal(decode_image(noted, SPEC).pixels, decode_image(data, SPEC).pixels)


def fill_bytes() -> bytes:
    return b"\xff\xd8" + b"\xff" * (100 * MIB) + jpeg_bytes()[2:]


def width_after(make: Callable[[], bytes]) -> int:
    return read_header(make()).width


def test_fill_bytes_before_a_marker_are_passed_over():
    assert within_limits(width_after, fill_bytes, more_bytes=512 * MIB, seconds=5) == 16


def scans_of(width: int, height: int, count: int) -> bytes:
    data = jpeg_bytes(progressive=True)
    frame = data.index(b"\xff\xc2")
    sized = data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]
    scan = sized.index(b"\xff\xda")
    return sized[:scan] + b"\xff\xda\0\x08\1\1\0\0\0\0" * count + b"\xff\xd9"


@pytest.mark.parametrize(
    ("size", "most"), [(16, 100), (4000, 100), (8000, 33), (13_000, 20)], ids=lambda of: str(of)
)
def test_the_larger_a_jpeg_the_fewer_scans_it_may_have(size, most):
    """Each costs as much as the image has blocks, however few its bytes."""
    assert read_header(scans_of(size, size, most)).width == size
    with pytest.raises(UnsupportedImageError, match=f"a JPEG of more than {most} scans"):
        read_header(scans_of(size, size, most + 1))


# PNGs with notes


def png_with(*chunks: bytes, before_data: bool = True) -> bytes:
    data = saved(image(16, 16), "PNG")
    at = data.index(b"IDAT") - 4 if before_data else len(data) - 12
    return data[:at] + b"".join(chunks) + data[at:]


def text_chunk() -> bytes:
    import zlib

    return png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(7 * MIB), 9))


def given_to_tensorflow(data: bytes) -> bytes:
    """The bytes that TensorFlow is asked to decode."""
    given: list[bytes] = []

    def decoded(contents: bytes, **_: object) -> object:
        given.append(contents)
        return types.SimpleNamespace(numpy=lambda: np.zeros((16, 16, 3), np.uint8))

    tf = types.SimpleNamespace(raw_ops=types.SimpleNamespace(DecodeImage=decoded), uint8=None)
    decode._tensorflow = lambda: (tf, ())
    decode_image(data, SPEC)
    return given[0]


def test_compressed_notes_are_not_unpacked():
    """1,500 of 7 kB each kept a core busy for 33 s."""
    notes = [text_chunk()] * 1500
    for before_data in (True, False):
        data = png_with(*notes, before_data=before_data)
        assert len(data) > 10 * MIB
        assert within_limits(given_to_tensorflow, data, seconds=5) == png_with()


def test_what_comes_after_the_end_of_a_png_is_no_chunk():
    padded = png_with() + bytes(2 * 2**20)
    assert png.without_notes(padded) == padded


def test_a_png_of_millions_of_chunks_is_refused():
    data = png_with(png_chunk(b"IDAT", b"") * MIB)
    with pytest.raises(UnsupportedImageError, match="a PNG of more than 100,000 chunks"):
        within_limits(decode_image, data, SPEC, seconds=5)


NOTES = {
    b"gAMA": struct.pack(">I", 20_000),
    b"cHRM": struct.pack(">8I", *range(1000, 9000, 1000)),
    b"sRGB": b"\0",
    b"iCCP": b"a\0\0broken",
    b"bKGD": struct.pack(">3H", 9, 9, 9),
    b"pHYs": struct.pack(">IIB", 1, 2, 1),
    b"sBIT": b"\1\1\1",
    b"tEXt": b"a\0b",
    b"zTXt": b"a\0\0broken",
    b"iTXt": b"a\0\1\0\0\0broken",
    b"tIME": bytes(7),
    b"eXIf": b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0",
    b"acTL": struct.pack(">II", 2, 0),
    b"quIx": b"unknown",
}


@pytest.mark.parametrize("kind", NOTES, ids=bytes.decode)
def test_no_note_changes_a_pixel(kind):
    data = png_with(png_chunk(kind, NOTES[kind]))
    assert png.without_notes(data) == png_with()
    assert np.array_equal(decode_image(data, SPEC).pixels, tensorflow_pixels(data))


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "LA", "RGBA", "1"])
def test_transparency_stays_as_tensorflow_has_it(mode):
    picture = image(16, 16).quantize(8) if mode == "P" else image(16, 16, "RGBA").convert(mode)
    options = {"transparency": 3} if mode in "PL" else {}
    data = saved(picture, "PNG", dpi=(72, 72), **options)
    assert b"pHYs" in data and (b"tRNS" in data) == bool(options)
    assert b"pHYs" not in png.without_notes(data)
    assert (b"tRNS" in png.without_notes(data)) == bool(options)
    assert np.array_equal(decode_image(data, SPEC).pixels, tensorflow_pixels(data))


def test_a_damaged_png_is_left_as_it_is():
    data = png_with(png_chunk(b"tEXt", b"a\0b"))
    for cut in range(8, len(data), 7):
        assert png.without_notes(data[:cut]) in (data[:cut], png_with()[: cut - 15])
    lies = png_with(struct.pack(">I4s", 2**32 - 1, b"tEXt"))
    assert png.without_notes(lies) == lies
    with pytest.raises(CorruptImageError):
        decode_image(lies, SPEC)


def test_a_model_that_decodes_gets_no_notes_either():
    stored = decode_image(png_with(text_chunk()), ImageSpec(0, 0, kind="encoded"))
    assert stored.pixels[()] == png_with()


# GIFs, BMPs, WebPs


def gif_of_frames() -> bytes:
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\2\0"
    return b"GIF89a\1\0\1\0\0\0\0" + frame * MIB + b";"


def gif_of_small_blocks() -> bytes:
    return b"GIF89a\1\0\1\0\0\0\0\x21\xfe" + b"\1a" * (4 * MIB) + b"\0;"


def gif_of_extensions() -> bytes:
    return b"GIF89a\1\0\1\0\0\0\0" + b"\x21\xfe\0" * (4 * MIB) + b";"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (gif_of_frames, "a GIF of more than 10,000 frames"),
        (gif_of_small_blocks, "a GIF of more than 2,097,152 blocks"),
        (gif_of_extensions, "a GIF of more than 2,097,152 blocks"),
    ],
)
def test_a_gif_of_millions_of_blocks_is_refused(make, told):
    assert within_limits(refused, make, more_bytes=512 * MIB, seconds=10) == told


def bmp_with_palette() -> bytes:
    head = struct.pack("<IHHIIiiHHIIIIII", 0, 0, 0, 2**32 - 1, 40, 1, 1, 1, 8, *[0] * 6)
    return b"BM" + head + bytes(64 * MIB)


def test_the_palette_of_a_bmp_is_no_larger_than_a_palette():
    """All that lies before the pixels was taken for it: 24 bytes for each of the file's."""
    told = within_limits(refused, bmp_with_palette, more_bytes=160 * MIB)
    assert told == "a BMP with a palette of more than 256 colours"


def webp_that_says(size: int) -> bytes:
    """34 bytes."""
    bits = size - 1 | size - 1 << 14
    chunk = b"VP8L" + struct.pack("<IBI", 13, 0x2F, bits) + bytes(8)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk + b"\0"


def jpeg_that_says(size: int) -> bytes:
    """Less than 739 bytes."""
    data = saved(image(8, 8), "JPEG")
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", size, size) + data[frame + 9 :]


THREADS, SIZE = 6, 4000


def decoded_at_once(data: bytes) -> int:
    """How many threads fail to decode it, all at once, where the process has 1 GB."""
    ctypes.CDLL(None).mallopt(-8, 1)  # one arena: an arena takes 64 MiB of addresses

    def decoded(contents: bytes, channels: int, **_: object) -> object:
        pixels = np.ones((SIZE, SIZE, channels), np.uint8)  # as TensorFlow's, then a copy
        raise ValueError(f"cut off: {len(pixels)}")

    tf = types.SimpleNamespace(raw_ops=types.SimpleNamespace(DecodeImage=decoded), uint8=None)
    decode._tensorflow = lambda: (tf, ValueError)
    decode.memory_share = lambda: 2**30
    jpeg._equals_tensorflow = lambda: True

    def attempt(_: int) -> bool:
        try:
            decode_image(data, ImageSpec(SIZE, SIZE))
        except CorruptImageError:
            return True
        return False

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(attempt, range(2 * THREADS)))


@pytest.mark.parametrize("make", [webp_that_says, jpeg_that_says])
def test_images_that_say_they_are_large_are_decoded_in_the_room_that_there_is(make):
    """Of 13,000 × 13,000 pixels each took 1 GB in each thread; here 50 to 100 MB in six."""
    data = make(SIZE)
    assert len(data) < 739
    header = read_header(data)
    assert (header.width, header.height) == (SIZE, SIZE)
    assert within_limits(decoded_at_once, data, more_bytes=256 * MIB) == 2 * THREADS


def test_an_image_larger_than_all_room_is_decoded_alone():
    picture = PIL.Image.fromarray(np.full((3000, 3000), 7, np.uint8))
    data = io.BytesIO()
    picture.save(data, "PNG")
    budget = decode._decoding_budget()
    limit, budget._limit = budget._limit, 1
    try:
        assert decode_image(data.getvalue(), SPEC).width == 3000
        assert budget.acquire(1, blocking=False)
        budget.release(1)
    finally:
        budget._limit = limit


def test_photos_do_not_wait_for_room(monkeypatch):
    monkeypatch.setattr(decode, "_decoding_budget", lambda: pytest.fail("asked for room"))
    picture = PIL.Image.fromarray(np.full((2048, 2048), 7, np.uint8))
    decode_image(saved(picture, "JPEG"), SPEC)
