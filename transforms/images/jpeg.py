"""JPEG to pixels with libjpeg-turbo: TensorFlow's, sooner, or nearly those, much sooner.

TensorFlow decodes with the same library, of an older release and with `JDCT_IFAST`.
`tests/transforms/images/test_jpeg.py` holds what is here to its pixels. Whatever is not an ordinary
JPEG, whole and without a warning, is left to TensorFlow, so that it has TensorFlow's outcome.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json

import numpy as np
import simplejpeg

from transforms import storage
from transforms.images.headers import ImageHeader
from transforms.machine.cache import cache_path
from transforms.machine.cores import processor
from transforms.machine.tensorflow_import import import_tensorflow

# Start-of-frame markers (ITU T.81, table B.1): baseline, extended and progressive, Huffman-coded.
# Of the others TensorFlow refuses most, and libjpeg-turbo before 3.1.4.1 writes past its buffer
# when it scales a lossless one.
_FRAMES = (0xC0, 0xC1, 0xC2)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_HIERARCHICAL = (0xC5, 0xC6, 0xCD, 0xCE)
_COMPONENTS = (1, 3)  # not CMYK: how that becomes RGB is TensorFlow's own

# The sizes, of n/8 for any n, in which libjpeg-turbo decodes faster than in full.
_SCALES = (8, 4, 2)
# Exact pixels are picked from the full image without averaging, so a scaled one must not be too
# smooth: at 12 megapixels the mean cosine of the sample photos' vectors is 0.986 if it just covers
# the model's input, and 0.996 at twice that, for a fifth more time.
COVER = 2

# Raise it whenever what is compared with TensorFlow changes.
_CHECK = 1


def exact_pixels(data: bytes, header: ImageHeader) -> np.ndarray | None:
    """TensorFlow's pixels, bit for bit: uint8 [H, W, 3], or None where TensorFlow must be asked."""
    return _decode(data, header) if _equals_tensorflow() else None


def fast_pixels(data: bytes, header: ImageHeader, height: int, width: int) -> np.ndarray | None:
    """Pixels for a model's input of `height` × `width`, some averaged, chroma not interpolated.

    Returns:
      uint8 [h, w, 3]: an eighth, a quarter or half of the image's size, the smallest of these that
      covers the input `COVER` times in both directions, else the image's size. None where
      TensorFlow must be asked.
    """
    for scale in _SCALES:
        scaled_height, scaled_width = -(-header.height // scale), -(-header.width // scale)
        if scaled_height >= COVER * height and scaled_width >= COVER * width:
            size = {"min_height": scaled_height, "min_width": scaled_width, "min_factor": 2}
            return _decode(data, header, fastupsample=True, **size)
    return _decode(data, header, fastupsample=True)


def is_ordinary(header: ImageHeader) -> bool:
    """Whether a JPEG is of a kind that is decoded here, if it is whole."""
    is_usual = header.start_of_frame in _FRAMES and header.precision == 8
    return is_usual and header.components in _COMPONENTS


def variant(header: ImageHeader) -> str | None:
    """What makes a JPEG one that few programs decode, if anything does."""
    if header.start_of_frame in _LOSSLESS:
        return "a lossless JPEG"
    if header.start_of_frame in _HIERARCHICAL:
        return "a hierarchical JPEG"
    if header.precision != 8:
        return f"a {header.precision}-bit JPEG"
    return None


def _decode(data: bytes, header: ImageHeader, **options: int) -> np.ndarray | None:
    if not is_ordinary(header):
        return None
    try:
        return simplejpeg.decode_jpeg(data, "RGB", fastdct=True, strict=True, **options)
    except (ValueError, RuntimeError):
        return None


@functools.cache
def _equals_tensorflow() -> bool:
    """Whether both libraries make the same of noise on this machine: their SIMD code may differ.

    What was found is kept in the cache, so that the next process need not import TensorFlow for it.
    """
    versions = [importlib.metadata.version(name) for name in ("simplejpeg", "tensorflow")]
    digest = hashlib.sha256(f"{_CHECK} {versions} {processor()}".encode()).hexdigest()[:32]
    names = "jpeg", f"{digest}.json"
    with contextlib.suppress(OSError, ValueError), open(cache_path(*names), "rb") as file:
        return json.load(file) is True
    equal = _compare_with_tensorflow()
    with contextlib.suppress(OSError):  # a cache that cannot be written is no cache
        storage.write_text(cache_path(*names), json.dumps(equal))
    return equal


def _compare_with_tensorflow() -> bool:
    import_tensorflow()
    import tensorflow as tf

    noise = np.random.default_rng(0).integers(0, 256, (67, 61, 3), np.uint8)
    for subsampling in ("444", "422", "420"):
        data = simplejpeg.encode_jpeg(noise, 100, "RGB", subsampling)
        ours = simplejpeg.decode_jpeg(data, "RGB", fastdct=True)
        if not np.array_equal(ours, tf.io.decode_jpeg(data, channels=3).numpy()):
            return False
    return True
