"""A folder as it comes: good photos, broken files and odd names. Each is a row or an error row."""

from __future__ import annotations

import ctypes
import io
import os
import pathlib
import struct
import zlib

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from examples.photos import sample_photos
from tests.helpers.commands import run_python

ODD_NAME = "a photo [1] #2 ünïcödé 写真.png"

# What Linux lets root read without permission: dropping it makes `chmod 000` count.
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2

EXPECTED_ERRORS = {
    "empty.jpg": ("decode", "EmptyImageError"),
    "truncated.jpg": ("decode", "CorruptImageError"),
    "text.jpg": ("decode", "NotAnImageError"),
    "huge.png": ("decode", "ImageTooLargeError"),
    "unreadable.jpg": ("read", "PermissionError"),
    "gone.jpg": ("read", "FileNotFoundError"),
}


def encoded(image: PIL.Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png() -> bytes:
    """A PNG whose header says 60000×60000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("hard") / "photos"
    directory.mkdir()
    photos = [path for path in sample_photos() if path.suffix in (".png", ".jpg")]
    for number in range(30):
        source = photos[number % len(photos)]
        (directory / f"good{number:02d}{source.suffix}").write_bytes(source.read_bytes())
    photo = PIL.Image.open(next(path for path in photos if path.name == "chelsea.png"))
    jpeg = encoded(photo, "JPEG")
    deep = (np.asarray(photo.convert("L")).astype(np.uint16) << 8) + 7
    files = {
        "empty.jpg": b"",
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "text.jpg": b"To whom it may concern: this is not a photo.\n",
        "deep.png": encoded(PIL.Image.fromarray(deep), "PNG"),
        "grey.jpg": encoded(photo.convert("L"), "JPEG"),
        "cmyk.jpg": encoded(photo.convert("CMYK"), "JPEG"),
        "alpha.png": encoded(photo.convert("RGBA"), "PNG"),
        "palette.png": encoded(photo.convert("P"), "PNG"),
        "animated.gif": encoded(
            photo.resize((64, 64)), "GIF", save_all=True, append_images=[photo.rotate(90)]
        ),
        "huge.png": huge_png(),
        "unreadable.jpg": jpeg,
        ODD_NAME: encoded(photo, "PNG"),
        "notes.txt": b"passed over",
    }
    for name, data in files.items():
        (directory / name).write_bytes(data)
    (directory / "unreadable.jpg").chmod(0)
    (directory / "gone.jpg").symlink_to(directory / "nowhere.jpg")
    return directory


def without_read_override() -> None:
    """In the child: give up root's right to read everything, if it has it."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "prctl")


def test_every_file_is_a_row_or_an_error_row(folder, tmp_path):
    out = tmp_path / "out"
    time_file = tmp_path / "peak"
    # A process of its own: without root's override, and its peak memory is only its own.
    program = (
        "import resource, sys; from pipeline import run; code = run.main(sys.argv[1:]); "
        f"open({str(time_file)!r}, 'w').write("
        "str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)); sys.exit(code)"
    )
    done = run_python(program, "--input", folder, "--output", out, preexec_fn=without_read_override)
    assert done.code == 0, done.err
    names = {path.name for path in folder.iterdir()} - {"notes.txt"}
    rows = {pathlib.Path(uri).name for uri in pd.read_parquet(out)["uri"]}
    error_table = pd.read_parquet(out / "_errors")
    errors = {
        pathlib.Path(row.uri).name: (row.stage, row.error_type) for row in error_table.itertuples()
    }
    assert errors == EXPECTED_ERRORS
    assert rows == names - set(errors)
    assert ODD_NAME in rows and "deep.png" in rows and "animated.gif" in rows
    assert all(error_table["message"].str.len() > 5)
    assert not any("\n" in message for message in error_table["message"])
    assert "passed over 1 other file (1 .txt)" in done.err
    assert f"{len(names)} matched: {len(rows)} rows and {len(errors)} errors" in done.out
    assert int(time_file.read_text()) * 1024 < 2 * 2**30, "peak memory"


def test_odd_names_can_be_given_directly(folder, run_here, tmp_path):
    done = run_here("--input", folder / ODD_NAME, "--output", tmp_path / "out")
    assert done.code == 0, done.err
    assert pd.read_parquet(tmp_path / "out")["uri"].tolist() == [str(folder / ODD_NAME)]


def test_mostly_broken_inputs_are_no_success(folder, run_here, tmp_path):
    broken = [folder / name for name in ("empty.jpg", "text.jpg", "good00.png")]
    out = tmp_path / "out"
    done = run_here("--input", *broken, "--output", out, "--max_error_rate", 0.5)
    assert done.code == 1
    assert "2 of 3 images that were tried are errors (67%)" in done.err
    assert len(pd.read_parquet(out)) == 1 and len(pd.read_parquet(out / "_errors")) == 2
    assert not (out / "_SUCCESS").exists()
    done = run_here("--input", *broken, "--output", out)  # so few are no reason to fail
    assert done.code == 0
    assert (out / "_SUCCESS").exists()
