"""What the name of a file says: an image, a TFRecord file, what lies beside one, hidden.

Only files that are found by searching a directory are taken by their names.
"""

from __future__ import annotations

import posixpath
import re

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
IMAGE_SUFFIXES = frozenset({*JPEG_SUFFIXES, ".png", ".gif", ".bmp", ".dib", ".webp"})

# Images, too, but of formats that are not decoded here.
UNDECODED_SUFFIXES = frozenset(
    [
        ".tif",
        ".tiff",
        ".heic",
        ".heif",
        ".hif",
        ".avif",
        ".jxl",
        ".jp2",
        ".j2k",
        ".jpx",
        ".psd",
        ".exr",
        ".hdr",
        ".tga",
        ".pcx",
        ".ppm",
        ".pgm",
        ".pnm",
        ".ico",
        ".svg",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".dng",
        ".orf",
        ".rw2",
        ".raf",
    ]
)

_TFRECORD_NAME = re.compile(r"\.tfrec(ords?)?(?=$|[-._])", re.IGNORECASE)

# What lies beside a TFRecord file and bears its name: where its records begin, as the readers of
# PyTorch and DALI want it, checksums, descriptions.
_COMPANION_SUFFIXES = frozenset(
    [".index", ".idx", ".crc", ".md5", ".sha1", ".sha256", ".json", ".txt", ".csv"]
)


def is_tfrecord_name(name: str) -> bool:
    """Whether a file's name says that it is a TFRecord file.

    >>> is_tfrecord_name("train.tfrecord-00000-of-00010"), is_tfrecord_name("a.tfrec")
    (True, True)
    """
    return _has_tfrecord_name(name) and not is_companion(name)


def _has_tfrecord_name(name: str) -> bool:
    return _TFRECORD_NAME.search(posixpath.basename(name)) is not None


def is_companion(name: str) -> bool:
    """Whether a file lies beside a TFRecord file and tells of it."""
    suffix = posixpath.splitext(name)[1].lower()
    return suffix in _COMPANION_SUFFIXES and _has_tfrecord_name(name)


def hidden_kind(name: str) -> str:
    """What a hidden file is counted as; `._*` is what macOS leaves beside a file."""
    stem, suffix = posixpath.splitext(name)
    return "._*" if name.startswith("._") else f".*{suffix.lower()}" if suffix else stem
