"""`python -m benchmarks.report RESULTS.json`: the results as Markdown, for benchmarks/README.md."""

from __future__ import annotations

import math
import pathlib
import sys

from benchmarks.claims import CLAIMS
from benchmarks.results import Results, load, median

KINDS = {
    "jpeg": "JPEGs of 500×375, 60 kB",
    "photo": "JPEGs of 12 megapixels",
    "png": "PNGs of 96×96",
    "tfrecord": "JPEGs of 60 kB in a TFRecord file",
}
COLUMNS = {
    "whole": "whole process, s",
    "steady": "steady, images/s",
    "cpu": "CPU s / 1,000 images",
    "memory": "peak memory, MiB",
    "start": "start-up, s",
}


def markdown(results: Results) -> str:
    """The machine, a table for each kind of images, the promises."""
    parts = ["\n".join(results.machine)]
    for kind, title in KINDS.items():
        pairs = [pair for pair in results.pairs if pair.kind == kind]
        if pairs:
            parts.append(f"### {pairs[0].images:,} {title}\n\n{_table(results, kind)}")
    parts.append(f"### TensorFlow alone, and the bounds\n\n{_alone(results)}")
    parts.append(f"### The promises\n\n{_promises(results)}")
    if results.left_out:
        lines = [f"- {name}: {why}" for name, why in results.left_out.items()]
        parts.append("Left out:\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def spread(values: list[float]) -> str:
    """The median, and the smallest and largest in brackets.

    >>> spread([1.0, 4.0, 2.0]), spread([math.nan])
    ('2.0 (1.0–4.0)', '—')
    """
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return "—"
    digits = 0 if median(numbers) >= 100 else 1 if median(numbers) >= 1 else 3
    low, middle, high = (f"{v:,.{digits}f}" for v in (min(numbers), median(numbers), max(numbers)))
    return f"{middle} ({low}–{high})"


def _ratio(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:.2f}"


def _table(results: Results, kind: str) -> str:
    rows = [["", *COLUMNS.values(), "steady / bare model", "vectors: cosine to the tf.data loop's"]]
    for name in dict.fromkeys(pair.contender for pair in results.pairs if pair.kind == kind):
        likeness = results.likeness.get(f"{kind}: {name}")
        rows.append(
            [
                name,
                *(spread(results.series(kind, name, figure)) for figure in COLUMNS),
                _ratio(results.median(kind, name, "steady") / results.bare()),
                f"≥ {likeness['smallest_cosine']:.6f}" if likeness else "—",
            ]
        )
    return _lines(rows)


def _alone(results: Results) -> str:
    rows = [["", "median (min–max)"]]
    for key in results.reference[0] if results.reference else ():
        rows.append([key.replace("_", " "), spread([r[key] for r in results.reference])])
    for name, bounds in results.bounds.items():
        for key in bounds[0]:
            rows.append([f"{name}: {key.replace('_', ' ')}", spread([b[key] for b in bounds])])
    return _lines(rows)


def _promises(results: Results) -> str:
    rows = [["ratio of medians", "promised", "measured", ""]]
    for claim in CLAIMS:
        ratio, holds = claim.ratio(results), claim.holds(results)
        rows.append(
            [
                claim.text,
                f"{'≥' if claim.at_least else '≤'} {claim.limit:g}",
                "not measured" if holds is None else f"{ratio:.2f}",
                {True: "holds", False: "**does not hold**", None: ""}[holds],
            ]
        )
    return _lines(rows)


def _lines(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


if __name__ == "__main__":
    print(markdown(load(pathlib.Path(sys.argv[1]))))
