"""What the project promises of its speed, as ratios of medians of one session."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from benchmarks.results import Results

TENSORFLOW, AUTO = "ours, tensorflow float32", "ours, auto"
FAST = "ours, tensorflow float32, decode fast"
LOOP, BEAM, RAY = "tf.data + hub.load", "naive Beam", "Ray Data"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A ratio that must be at least, or at most, so much.

    Attributes:
      text: what is compared.
      limit: the ratio.
      at_least: whether the ratio must be at least the limit, else at most.
      ratio: from the results; NaN where something was not measured.
    """

    text: str
    limit: float
    at_least: bool
    ratio: Callable[[Results], float]

    def holds(self, results: Results) -> bool | None:
        """Whether it does; None where it was not measured."""
        ratio = self.ratio(results)
        if math.isnan(ratio):
            return None
        return ratio >= self.limit if self.at_least else ratio <= self.limit


def _steady(of: str, over: str, kind: str = "jpeg") -> Callable[[Results], float]:
    return lambda r: r.median(kind, of, "steady") / r.median(kind, over, "steady")


def _whole(of: str, over: str) -> Callable[[Results], float]:
    """How much faster `of` is than `over`, process against process."""
    return lambda r: r.median("jpeg", over, "whole") / r.median("jpeg", of, "whole")


def _near_bound(of: str) -> Callable[[Results], float]:
    return lambda r: r.median("jpeg", of, "steady") / r.bound(of)


def _start_up(r: Results) -> float:
    return r.median("jpeg", TENSORFLOW, "start") / r.bare("frozen_seconds")


def _start_up_without_tensorflow(r: Results) -> float:
    return r.median("jpeg", AUTO, "start") / (r.bare("imported_seconds") + 2)


CLAIMS = (
    Claim(f"steady rate, {TENSORFLOW} / tf.data loop", 1.35, True, _steady(TENSORFLOW, LOOP)),
    Claim(f"steady rate, {AUTO} / tf.data loop", 1.55, True, _steady(AUTO, LOOP)),
    Claim(f"whole process, naive Beam / {TENSORFLOW}", 1.6, True, _whole(TENSORFLOW, BEAM)),
    Claim(f"whole process, Ray Data / {TENSORFLOW}", 2.5, True, _whole(TENSORFLOW, RAY)),
    Claim(f"whole process, naive Beam / {AUTO}", 1.8, True, _whole(AUTO, BEAM)),
    Claim(f"whole process, Ray Data / {AUTO}", 2.8, True, _whole(AUTO, RAY)),
    Claim(f"steady rate, {TENSORFLOW} / its bound", 0.95, True, _near_bound(TENSORFLOW)),
    Claim(f"steady rate, {AUTO} / its bound", 0.95, True, _near_bound(AUTO)),
    Claim("12-megapixel JPEGs, decode fast / exact", 3.0, True, _steady(FAST, TENSORFLOW, "photo")),
    Claim(f"start-up, {TENSORFLOW} / import + load + freeze", 1.2, False, _start_up),
    Claim(
        f"start-up, {AUTO} / (import of TensorFlow + 2 s)",
        1.0,
        False,
        _start_up_without_tensorflow,
    ),
)
