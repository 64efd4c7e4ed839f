"""`python -m examples.retrain DIR`: a classifier of handwritten digits, trained, used and exported.

TensorFlow Hub's tutorial *Retraining an image classifier* as commands, without a network. Its steps
with their results and pictures: `examples/retrain.ipynb`.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shlex
import sys
from collections.abc import Callable

from consumers import load_features
from examples.digits import write_digits
from pipeline import run, train

# One of so many is put aside; eleven, as the digits come in tens from 0 to 9.
_ASIDE = 11


def write_digits_apart(digits: pathlib.Path, aside: pathlib.Path, most: int | None) -> None:
    """Writes digits to learn from, by folder, and others of which the training will know nothing.

    Args:
      digits, aside: where they go, each digit to the folder of its class.
      most: how many of both, from the first; None: all 1,797.
    """
    write_digits(digits, most)
    for path in sorted(digits.glob("*/*.png"), key=lambda path: path.name)[::_ASIDE]:
        (aside / path.parent.name).mkdir(parents=True, exist_ok=True)
        path.replace(aside / path.parent.name / path.name)


def shown_command(verb: Callable[[list[str]], int], *words: object) -> None:
    """Shows a command of this tool as one would type it, and runs it.

    Raises:
      SystemExit: it has failed, and has said why.
    """
    given = list(map(str, words))
    print(f"\n$ python -m {verb.__module__} {shlex.join(given)}", flush=True)
    if code := verb(given):
        sys.exit(code)


def main(argv: list[str] | None = None) -> None:
    """Runs the steps; what they write lies in one directory, and the next call goes on from it."""
    parser = argparse.ArgumentParser(prog="examples.retrain", description=__doc__)
    parser.add_argument("directory", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--most", type=int, metavar="N", help="so many digits (default: all)")
    parser.add_argument("--image_size", default="96x96", metavar="HxW", help="that the model sees")
    given = parser.parse_args(argv)
    digits, aside, model, logits = (
        given.directory / name for name in ("digits", "aside", "model", "logits")
    )

    write_digits_apart(digits, aside, given.most)
    training = ["--image_dir", digits, "--saved_model_dir", model, "--overwrite"]
    training += ["--image_size", given.image_size]
    training += ["--tflite_output_file", given.directory / "digits.tflite"]
    shown_command(train.main, *training)

    # The size of the images, the names of the classes and the softmax are read from the model.
    running = ["--task", "classification", "--model", model]
    shown_command(run.main, *running, "--input", aside, "--output", logits, "--overwrite")

    print("\nDigits that were put aside, and what they are taken for:")
    answers = load_features(str(logits), columns=["uri", "top_k"]).to_pandas()
    right = 0
    for uri, top_k in zip(answers["uri"], answers["top_k"], strict=True):
        name, digit, best = pathlib.Path(uri).name, pathlib.Path(uri).parent.name, top_k[0]
        right += best["label"] == digit
        print(f"  {digit}/{name}: {best['label']} ({best['score']:.0%})")
    print(f"right: {right} of {len(answers)}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else it tells a lot
    main()
