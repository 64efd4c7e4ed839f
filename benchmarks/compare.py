"""`python -m benchmarks.compare --cache DIR`: all contenders, interleaved, on the same images.

A round runs every contender once, one after the other; then the next round begins. So a machine
that is slow for a while is slow for all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

from benchmarks import images, machine, report, vectors
from benchmarks.contenders import ENVIRONMENT, OURS, THEIRS, Contender
from benchmarks.measure import Measurement, measure
from benchmarks.results import ONE_BATCH, Pair, Results
from transforms.models import builtin

LOOP = "tf.data + hub.load"


@dataclasses.dataclass(frozen=True)
class Session:
    """Where things lie, and what is run.

    Attributes:
      cache: directory for images, outputs and results.
      model: a SavedModel's directory.
      counts: by kind of images, how many.
      limit_seconds: a run that takes longer hangs, and is killed.
    """

    cache: pathlib.Path
    model: str
    counts: dict[str, int]
    limit_seconds: float = 900.0

    def images(self, kind: str, count: int) -> str:
        """An image set."""
        return str(images.directory_of(kind, count, self.cache / "images"))

    def make_images(self) -> None:
        """Makes all sets, each in a process of its own: it may need TensorFlow."""
        for kind, many in self.counts.items():
            for count in (ONE_BATCH, many):
                command = [sys.executable, "-m", "benchmarks.images", kind, str(count)]
                subprocess.run([*command, str(self.cache / "images")], check=True)

    def run(self, contender: Contender, kind: str, count: int) -> Measurement:
        """One run of a contender; what it wrote stays until its next."""
        output = self.output(kind, contender)
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        command = contender.command(self.images(kind, count), str(output), self.model)
        return measure(command, output, ENVIRONMENT, self.limit_seconds)

    def output(self, kind: str, contender: Contender) -> pathlib.Path:
        """Where a contender writes."""
        return self.cache / "outputs" / f"{kind} {contender.name}".replace(" ", "-")

    def tool(self, module: str, *arguments: str) -> dict[str, float]:
        """What a module of this package says of the JPEGs and the model."""
        jpegs = self.images("jpeg", self.counts["jpeg"])
        command = [sys.executable, "-m", module, jpegs, self.model, *arguments]
        return json.loads(measure(command, environment=ENVIRONMENT).stdout)


def warm_up(session: Session, contenders: list[tuple[str, Contender]], results: Results) -> None:
    """Runs everybody on one batch, to fill caches; whoever fails is left out."""
    for kind, contender in contenders:
        try:
            session.run(contender, kind, ONE_BATCH)
        except RuntimeError as error:
            results.left_out[contender.name] = f"failed: {error}"
            _say(f"{contender.name} {results.left_out[contender.name]}")


def run_round(session: Session, contenders: list[tuple[str, Contender]], results: Results) -> None:
    """Every contender once, on every kind of images that it takes."""
    results.reference.append(session.tool("benchmarks.reference"))
    for kind, contender in contenders:
        if contender.name in results.left_out:
            continue
        count = session.counts[kind]
        runs = [session.run(contender, kind, many) for many in (ONE_BATCH, count)]
        pair = Pair(contender.name, kind, count, *runs)
        results.pairs.append(pair)
        figures = ", ".join(f"{name} {value:.1f}" for name, value in pair.figures.items())
        _say(f"{kind}: {contender.name}: {figures}")
        if contender.bound and kind == "jpeg":
            found = session.tool("benchmarks.bound", *contender.bound)
            results.bounds.setdefault(contender.name, []).append(found)


def check_vectors(
    session: Session, contenders: list[tuple[str, Contender]], results: Results
) -> None:
    """Compares what everybody wrote with what the tf.data loop wrote."""
    loop = next(contender for contender in THEIRS if contender.name == LOOP)
    for kind in session.counts:
        expected = vectors.read_vectors(session.output(kind, loop))
        for contender in (c for k, c in contenders if k == kind):
            if contender.name not in results.left_out:
                got = vectors.read_vectors(session.output(kind, contender))
                likeness = dataclasses.asdict(vectors.compare(got, expected))
                results.likeness[f"{kind}: {contender.name}"] = likeness


def main() -> None:
    """Runs it all; prints the tables and leaves everything in the cache."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="directory for all files")
    parser.add_argument("--n", type=int, default=2000, help="images (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--kinds", default=",".join(report.KINDS), help="default: %(default)s")
    options = parser.parse_args()
    if options.n <= ONE_BATCH:
        parser.error(f"--n must be more than one batch of {ONE_BATCH} images")
    few = max(options.n // 10, 2 * ONE_BATCH)
    counts = {k: few if k == "photo" else options.n for k in options.kinds.split(",")}
    cache = options.cache.resolve()
    session = Session(cache, builtin.exported("feature_vector"), {"jpeg": options.n} | counts)
    results = Results(machine=machine.describe())
    everybody = [*OURS, *THEIRS]
    results.left_out = {c.name: f"{c.needs} is not here" for c in everybody if not c.is_here}
    contenders = [(k, c) for k in counts for c in everybody if k in c.kinds and c.is_here]
    _say(f"images, a run of everybody on {ONE_BATCH} of them, then {options.runs} rounds")
    session.make_images()
    warm_up(session, contenders, results)
    for number in range(options.runs):
        _say(f"round {number + 1} of {options.runs}")
        run_round(session, contenders, results)
        results.save(cache / "results.json")
    check_vectors(dataclasses.replace(session, counts=counts), contenders, results)
    results.save(cache / "results.json")
    text = report.markdown(results)
    (cache / "results.md").write_text(text)
    print(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
