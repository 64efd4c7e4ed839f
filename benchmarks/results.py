"""What was measured, and the figures that follow from it.

The definitions, the same for every contender:

- start-up: from the start of the process until the first vectors are in a Parquet file, in a run
  on one batch of images;
- steady rate: a run on many images less the run on one batch that came just before it, images by
  whole-process seconds. What costs the same whatever the number of images falls out of it;
- CPU seconds for 1,000 images: the same difference, in CPU time.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import statistics
from typing import Any

from benchmarks.measure import Measurement

ONE_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Pair:
    """A contender's two runs of one round: on one batch and on all images.

    Attributes:
      contender, kind: who, on which image set.
      images: how many in the long run.
      short, long: the runs.
    """

    contender: str
    kind: str
    images: int
    short: Measurement
    long: Measurement

    @property
    def figures(self) -> dict[str, float]:
        """By name, what the table shows."""
        more = self.images - ONE_BATCH
        seconds = self.long.wall_seconds - self.short.wall_seconds
        return {
            "whole": self.long.wall_seconds,
            "steady": more / seconds if seconds > 0 else math.nan,
            "cpu": (self.long.cpu_seconds - self.short.cpu_seconds) / more * 1000,
            "memory": self.long.peak_mib,
            "start": self.short.first_output_seconds or math.nan,
        }


@dataclasses.dataclass
class Results:
    """All of one session.

    Attributes:
      machine: what it ran on, in lines of text.
      pairs: the contenders' runs.
      reference: what `benchmarks.reference` printed, one a round.
      bounds: what `benchmarks.bound` printed, by contender, one a round.
      likeness: by "kind: contender", how far its vectors are from the tf.data loop's.
      left_out: by contender, why.
    """

    machine: list[str] = dataclasses.field(default_factory=list)
    pairs: list[Pair] = dataclasses.field(default_factory=list)
    reference: list[dict[str, float]] = dataclasses.field(default_factory=list)
    bounds: dict[str, list[dict[str, float]]] = dataclasses.field(default_factory=dict)
    likeness: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    def series(self, kind: str, contender: str, figure: str) -> list[float]:
        """One figure of a contender, a value a round."""
        runs = [p for p in self.pairs if (p.kind, p.contender) == (kind, contender)]
        return [pair.figures[figure] for pair in runs]

    def median(self, kind: str, contender: str, figure: str) -> float:
        """The median over the rounds; NaN where there is none."""
        return median(self.series(kind, contender, figure))

    def bare(self, figure: str = "bare_images_a_second") -> float:
        """A figure of TensorFlow alone, median over the rounds."""
        return median([reference[figure] for reference in self.reference])

    def bound(self, contender: str) -> float:
        """Images a second that the cores could do at most, median over the rounds."""
        return median([b["bound_images_a_second"] for b in self.bounds.get(contender, [])])

    def save(self, path: pathlib.Path) -> None:
        """Writes it all as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1))


def median(values: list[float]) -> float:
    """The median; NaN of nothing."""
    return statistics.median(values) if values else math.nan


def load(path: pathlib.Path) -> Results:
    """Reads what `save` wrote."""
    data: dict[str, Any] = json.loads(path.read_text())
    for pair in data["pairs"]:
        pair["short"], pair["long"] = (Measurement(**pair[run]) for run in ("short", "long"))
    data["pairs"] = [Pair(**pair) for pair in data["pairs"]]
    return Results(**data)
