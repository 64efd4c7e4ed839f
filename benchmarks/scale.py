"""`python -m benchmarks.scale --cache DIR`: whether time an image and memory stay flat.

Runs the pipeline on 2,000, 20,000 and 200,000 small images, and on one batch before each. The
smallest size is run before and after every other, as the machine's speed may drift in an hour.
Then it plans a job of 1,000,000 images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys

from benchmarks import machine
from benchmarks.compare import Session
from benchmarks.contenders import ENVIRONMENT, OURS
from benchmarks.measure import measure
from benchmarks.results import ONE_BATCH, Pair
from transforms.models import builtin

KIND = "thumbnail"
LIMIT_SECONDS = 4 * 3600.0


def order(sizes: list[int]) -> list[int]:
    """The sizes in the order in which they are run.

    >>> order([2, 20, 200])
    [2, 20, 2, 200, 2]
    """
    smallest, *others = sorted(sizes)
    return [smallest, *(size for other in others for size in (other, smallest))]


def table(pairs: list[Pair], planning: dict[str, float]) -> str:
    """The results as Markdown."""
    smallest = min(pair.images for pair in pairs)

    def middle(images: int, figure: str) -> float:
        return statistics.median(p.figures[figure] for p in pairs if p.images == images)

    lines = [
        "| images | runs | ms an image, steady | ratio | peak memory, MiB | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for images in sorted({pair.images for pair in pairs}):
        seconds, memory = 1 / middle(images, "steady"), middle(images, "memory")
        slower = seconds * middle(smallest, "steady")
        larger = memory / middle(smallest, "memory")
        runs = sum(pair.images == images for pair in pairs)
        lines.append(
            f"| {images:,} | {runs} | {seconds * 1000:.2f} | {slower:.3f} | {memory:,.0f} "
            f"| {larger:.3f} |"
        )
    lines += [
        "",
        f"Planning {planning['refs']:,} images: {planning['plan_seconds']:.1f} s, peak memory "
        f"{planning['peak_mib']:,.0f} MiB.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Runs it all; prints the table and leaves everything in the cache."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="directory for all files")
    parser.add_argument("--sizes", default="2000,20000,200000", help="default: %(default)s")
    parser.add_argument("--refs", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument(
        "--contender",
        default=OURS[0].name,
        choices=[contender.name for contender in OURS if "jpeg" in contender.kinds],
        help="who runs (default: %(default)s); the faster the model, the more shows what grows",
    )
    options = parser.parse_args()
    contender = next(one for one in OURS if one.name == options.contender)
    sizes = [int(size) for size in options.sizes.split(",")]
    described = machine.describe()
    session = Session(
        options.cache.resolve(), builtin.exported("feature_vector"), {}, LIMIT_SECONDS
    )
    for size in sizes:
        dataclasses.replace(session, counts={KIND: size}).make_images()
    pairs = []
    for size in order(sizes):
        runs = [session.run(contender, KIND, many) for many in (ONE_BATCH, size)]
        pairs.append(Pair(contender.name, KIND, size, *runs))
        print(f"{size:,}: {pairs[-1].figures}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.planning", str(options.refs)]
    planning = json.loads(measure(command, environment=ENVIRONMENT).stdout)
    text = "\n".join(
        [*described, f"{contender.name}, JPEGs of 128×128.", "", table(pairs, planning)]
    )
    (session.cache / "scale.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
