"""The parity probe: whether an engine gives the numbers of the model as it was published.

A fixed set of images runs through the engine and through TensorFlow in float32, before a job
starts. The images have the spectrum of photos, which fall off as 1/frequency (Field, 1987,
doi:10.1364/JOSAA.4.002379): noise of equal strength at all frequencies is a much harder case than
any photo.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json

import numpy as np

from transforms import storage
from transforms.engines import EngineName, Precision, load
from transforms.errors import Parameter, Piece, UserError
from transforms.machine.cache import cache_path
from transforms.models.source import ModelSource

PROBE_IMAGES = 8

# float32: largest difference of a value, relative to the norm of its vector. The others: cosine.
FLOAT32_TOLERANCE = 1e-4
MIN_COSINE = 0.999

# Raise it whenever the probe's images or figures change.
_PROBE_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far an engine's vectors are from TensorFlow's in float32.

    Attributes:
      largest_difference: of any value, absolute.
      relative_difference: the largest of any value, relative to the norm of its vector.
      smallest_cosine: between an image's two vectors.
    """

    largest_difference: float
    relative_difference: float
    smallest_cosine: float

    def __str__(self) -> str:
        return (
            f"largest difference {self.largest_difference:.2g}, relative to the vector's norm "
            f"{self.relative_difference:.2g}, smallest cosine {self.smallest_cosine:.6f}"
        )

    def is_within(self, precision: Precision, min_cosine: float = MIN_COSINE) -> bool:
        """Whether that is within the tolerance of the precision."""
        if precision == "float32":
            return self.relative_difference <= FLOAT32_TOLERANCE
        return self.smallest_cosine >= min_cosine


def photo_like_images(height: int, width: int, count: int = PROBE_IMAGES) -> np.ndarray:
    """The fixed set: float32 [count, height, width, 3] in [0, 1]."""
    random = np.random.default_rng(20260101)
    frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width))
    amplitude = 1 / np.maximum(frequency, 1 / max(height, width))
    white = random.standard_normal((count, 3, height, width))
    images = np.fft.irfft2(np.fft.rfft2(white) * amplitude, (height, width))
    images = images.transpose(0, 2, 3, 1)
    low, high = images.min((1, 2, 3), keepdims=True), images.max((1, 2, 3), keepdims=True)
    return ((images - low) / (high - low)).astype(np.float32)


def compare(vectors: np.ndarray, reference: np.ndarray) -> Parity:
    """How far vectors [B, N] are from those that they should be.

    NaN and infinity are as far as can be from any other value, and equal to themselves.
    """
    same = (vectors == reference) | (np.isnan(vectors) & np.isnan(reference))
    unlike = ~(same | (np.isfinite(vectors) & np.isfinite(reference))).all(axis=1)
    got, expected = (np.where(np.isfinite(v), v, 0.0) for v in (vectors, reference))
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    difference = np.where(unlike, np.inf, np.abs(got - expected).max(axis=1))
    norm = np.linalg.norm(expected, axis=1)
    tiny = np.finfo(np.float32).tiny
    lengths = np.maximum(np.linalg.norm(got, axis=1) * norm, tiny)
    cosine = np.where(difference == 0, 1.0, (got * expected).sum(axis=1) / lengths)
    cosine = np.where(unlike, -1.0, cosine)
    return Parity(
        float(difference.max()),
        float((difference / np.maximum(norm, tiny)).max()),
        float(cosine.min()),
    )


def check_parity(
    source: ModelSource,
    name: EngineName,
    precision: Precision,
    height: int,
    width: int,
    min_cosine: float = MIN_COSINE,
) -> Parity | None:
    """Probes an engine before a job starts; None for the reference itself.

    What was measured once is kept in the cache, as long as nothing changes that decides it.

    Raises:
      UserError: the engine is beyond the tolerance; the message has the figures.
    """
    if (name, precision) == ("tensorflow", "float32"):
        return None
    parity = _measured(source, name, precision, height, width)
    if not parity.is_within(precision, min_cosine):
        wanted: list[Piece] = [f"at least {min_cosine:g} (", Parameter("min_cosine"), ")"]
        if precision == "float32":
            wanted = [f"a relative difference of at most {FLOAT32_TOLERANCE:g}"]
        raise UserError(
            f"too far from TensorFlow in float32 on {source.name}: {parity}; ",
            *wanted,
            " is accepted. ",
            Parameter("engine", "tensorflow"),
            " ",
            Parameter("precision", "float32"),
            " is exact",
            subject=(Parameter("engine", name), Parameter("precision", precision)),
        )
    return parity


def _measured(
    source: ModelSource, name: EngineName, precision: Precision, height: int, width: int
) -> Parity:
    engine = load(source, name, precision)
    names = None
    if engine.identity is not None:
        reference = importlib.metadata.version("tensorflow")
        key = f"{_PROBE_VERSION} {height}x{width} {reference} {engine.identity}"
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        names = "parity", f"{digest}.json"
        with (
            contextlib.suppress(OSError, ValueError, TypeError),
            open(cache_path(*names), "rb") as file,
        ):
            return Parity(**json.load(file))
    images = photo_like_images(height, width)
    parity = compare(engine(images), load(source)(images))
    if names is not None:
        with contextlib.suppress(OSError):  # a cache that cannot be written is no cache
            storage.write_text(cache_path(*names), json.dumps(dataclasses.asdict(parity)))
    return parity
