"""Training a head on many vectors: ours beside scikit-learn's classifiers; accuracy, time, memory.

`python -m benchmarks.consumers.heads` makes 200,000 vectors of 1280 numbers in 100 classes, holds
out a tenth, and trains each contender in a process of its own. Ours reads a memory map, as a
consumer of a large dataset does; the others get the array in memory and standardise it in place.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import subprocess
import sys
import time

import numpy as np

WIDTH = 1280
LATENT = 96
# Between class centres, within a class, and of each number by itself: some 85 % can be told right.
APART, NOISE = 0.4, 1.5
ROWS_AT_ONCE = 4096
CONTENDERS = ("ours", "LogisticRegression", "SGDClassifier")


def make_vectors(directory: pathlib.Path, images: int, classes: int, seed: int = 0) -> None:
    """Writes `vectors.npy`, float32 [images, 1280], and `targets.npy`, int64 [images].

    A class is a centre in 96 dimensions with a covariance that all share, widest in few of them;
    mixed into 1280 with noise and cut at 0, as the last ReLU and the pooling of a network do.
    """
    if (directory / "targets.npy").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    centres = APART * random.standard_normal((classes, LATENT), np.float32)
    within = random.standard_normal((LATENT, LATENT), np.float32) / np.sqrt(LATENT)
    within *= np.geomspace(2, 0.3, LATENT, dtype=np.float32)
    mixing = random.standard_normal((LATENT, WIDTH), np.float32) / np.sqrt(LATENT)
    targets = random.integers(0, classes, images)
    path = directory / "vectors.npy"
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (images, WIDTH))
    for start in range(0, images, ROWS_AT_ONCE):
        of_block = targets[start : start + ROWS_AT_ONCE]
        latent = random.standard_normal((len(of_block), LATENT), np.float32) @ within.T
        latent += centres[of_block]
        block = latent.astype(np.float32) @ mixing.astype(np.float32)
        block += NOISE * random.standard_normal(block.shape, np.float32)
        vectors[start : start + len(of_block)] = np.maximum(block, 0)
    vectors.flush()
    np.save(directory / "targets.npy", targets)


def train(contender: str, directory: pathlib.Path, classes: int, most_rounds: int) -> None:
    """Trains one contender in this process and prints its figures as JSON."""
    targets = np.load(directory / "targets.npy")
    held_out = len(targets) // 10
    kind = "r" if contender == "ours" else None
    vectors = np.load(directory / "vectors.npy", mmap_mode=kind)
    tested, learnt = vectors[:held_out], vectors[held_out:]
    started, cpu = time.perf_counter(), time.process_time()
    if contender == "ours":
        accuracy, said = _ours(learnt, targets[held_out:], tested, targets[:held_out], classes)
    else:
        accuracy, said = _scikit_learn(
            contender, learnt, targets[held_out:], tested, targets[:held_out], most_rounds
        )
    status = pathlib.Path("/proc/self/status").read_text()
    figures = {
        "contender": contender,
        "accuracy": accuracy,
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "peak_mib": int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024,
        "said": said,
    }
    print(json.dumps(figures))


def _ours(learnt, targets, tested, truth, classes) -> tuple[float, str]:
    from consumers.labelled import Labelled
    from consumers.training.fit import HeadOptions, fit_head

    ids = np.arange(len(targets)).astype(str).astype(object)
    names = tuple(f"class {number:04d}" for number in range(classes))
    labelled = Labelled(ids, learnt, targets, names)
    fitted = fit_head(labelled, HeadOptions(), lambda line: print(line, file=sys.stderr))
    found = np.concatenate(
        [
            fitted.head.logits(tested[start : start + ROWS_AT_ONCE]).argmax(axis=1)
            for start in range(0, len(tested), ROWS_AT_ONCE)
        ]
    )
    out_of_fold = float((fitted.out_of_fold.argmax(axis=1) == targets).mean())
    chosen = fitted.description
    said = f"l2 {chosen['l2']:g} of {len(chosen['log_loss_by_l2'])} tried, {chosen['folds']} folds"
    return float((found == truth).mean()), f"{said}, out-of-fold accuracy {out_of_fold:.4f}"


def _scikit_learn(contender, learnt, targets, tested, truth, most_rounds) -> tuple[float, str]:
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    mean, deviation = learnt.mean(axis=0), learnt.std(axis=0)
    for vectors in (learnt, tested):
        vectors -= mean
        vectors /= deviation
    if contender == "SGDClassifier":
        model = SGDClassifier(loss="log_loss", max_iter=most_rounds, random_state=0, n_jobs=2)
        told = f"log_loss, alpha 1e-4, at most {most_rounds} epochs"
    else:
        model = LogisticRegression(max_iter=10 * most_rounds)
        told = f"C=1, at most {10 * most_rounds} iterations"
    model.fit(learnt, targets)
    return float(model.score(tested, truth)), f"{told}, took {int(np.max(model.n_iter_))}"


def main() -> None:
    """Makes the vectors if they are not there, lets everybody train, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path(".cache/benchmarks"))
    parser.add_argument("--who", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument(
        "--most_rounds", type=int, default=10, help="epochs of SGDClassifier; iterations by ten"
    )
    parser.add_argument("--in_this_process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    directory = options.cache / f"heads-{options.images}-{options.classes}"
    if options.in_this_process:
        train(options.who[0], directory, options.classes, options.most_rounds)
        return
    make_vectors(directory, options.images, options.classes)
    print(f"{options.images:,} × {WIDTH}, {options.classes} classes; a tenth held out\n")
    print("| | held-out accuracy | seconds | CPU seconds | peak MiB | |")
    print("|---|---|---|---|---|---|")
    for contender in options.who:
        command = [sys.executable, "-m", "benchmarks.consumers.heads", "--in_this_process"]
        command += ["--images", str(options.images), "--classes", str(options.classes)]
        command += ["--cache", str(options.cache), "--most_rounds", str(options.most_rounds)]
        done = subprocess.run(
            [*command, "--who", contender], check=True, stdout=subprocess.PIPE, text=True
        )
        got = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {contender} | {got['accuracy']:.4f} | {got['seconds']:.0f} | {got['cpu']:.0f} "
            f"| {got['peak_mib']:,.0f} | {got['said']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
