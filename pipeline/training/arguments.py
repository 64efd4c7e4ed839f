"""The options of `pipeline.train`: what to learn from, how, and what is written.

Those of `make_image_classifier`, which came with TensorFlow Hub until 2023, are among them under
their names and with their meaning.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from pipeline.options import model, types
from pipeline.options.parser import Parser
from pipeline.training.tuning_arguments import DEFAULTS, add_augmentation, add_tuning
from transforms.models import builtin

EPILOG = """\
With --image_dir, the options of run that say how images are read and computed work as well, such
as --engine auto or --pixels. Exit codes: 0 done; 1 failed, or less accurate than
--assert_accuracy_at_least: nothing was written; 2 a mistake in the command or its inputs; 3 a run
is at work on the features; 4 a safety limit of run refused it; 130 or 143 interrupted.
"""

_BOOLEANS = (
    "do_fine_tuning",
    "do_data_augmentation",
    "horizontal_flip",
    "use_tf_data_input",
    "set_memory_growth",
)


def as_written_out(words: Sequence[str]) -> list[str]:
    """The words with their switches as absl's flags have them: `--x`, `--nox` and `--x=true`.

    >>> as_written_out(["--do_fine_tuning", "FEATURES", "--nohorizontal_flip"])
    ['--do_fine_tuning=true', 'FEATURES', '--horizontal_flip=false']
    """
    known = {f"--{name}": f"--{name}=true" for name in _BOOLEANS}
    known |= {f"--no{name}": f"--{name}=false" for name in _BOOLEANS}
    return [known.get(word, word) for word in words]


def training_parser() -> argparse.ArgumentParser:
    """The parser, for the command and `--help`."""
    parser = Parser(
        "train",
        usage="%(prog)s FEATURES --output MODEL [option ...]\n"
        "       %(prog)s --image_dir FOLDERS --saved_model_dir MODEL [option ...]",
        description="Trains a classifier on feature vectors, or fine-tunes the model that makes "
        "them, and writes a SavedModel from images to logits.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "features_directory",
        nargs="?",
        metavar="FEATURES",
        help="output directory of a run; with --image_dir: none, as it is made",
    )
    _add_inputs(parser.add_argument_group("what to learn from"))
    _add_outputs(parser.add_argument_group("what is written"))
    _add_model(parser.add_argument_group("the model that makes the vectors"))
    _add_head(parser.add_argument_group("the head"))
    add_tuning(parser.add_argument_group("fine-tuning"))
    add_augmentation(parser.add_argument_group("augmentation"))
    return parser


def _add_inputs(group: Any) -> None:
    group.add_argument(
        "--image_dir",
        metavar="DIR",
        help="a directory with a folder of images for each class",
    )
    group.add_argument(
        "--features_dir",
        metavar="DIR",
        help="where the vectors of --image_dir are kept, to be used again by the next call "
        "(default: MODEL-features)",
    )
    group.add_argument(
        "--label_column",
        metavar="NAME",
        help="column of FEATURES with the label, or a list of them (default: label)",
    )
    group.add_argument(
        "--labels_csv", metavar="FILE", help="CSV file with the columns id and label"
    )
    group.add_argument(
        "--multi_label",
        action="store_true",
        help="an image may be of several classes: several lines of --labels_csv",
    )
    group.add_argument(
        "--group_column",
        metavar="NAME",
        help="column of FEATURES: images with the same value are never on both sides of a split, "
        "such as those of one patient",
    )
    group.add_argument(
        "--validation_split",
        "--split",
        type=types.fraction,
        default=0.2,
        metavar="X",
        help="share of the images of each class that is held out to measure with "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--seed",
        type=types.natural,
        default=0,
        metavar="N",
        help="decides the split and all else that is random (default: %(default)s)",
    )
    group.add_argument(
        "--near_duplicates",
        type=types.fraction,
        metavar="COSINE",
        help="images whose vectors are so alike are never on both sides of a split; 1: only equal "
        "ones (default: 0.99, unless that is most images)",
    )


def _add_outputs(group: Any) -> None:
    group.add_argument(
        "--output",
        "--saved_model_dir",
        metavar="MODEL",
        help="directory for the SavedModel and all that is told of it; it must not exist",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="replace MODEL, once the new one is whole"
    )
    group.add_argument(
        "--labels_output_file", metavar="FILE", help="a second labels.txt, in this place"
    )
    group.add_argument("--tflite_output_file", metavar="FILE", help="the classifier as TFLite, too")
    group.add_argument(
        "--assert_accuracy_at_least",
        type=types.fraction,
        metavar="X",
        help="exit with 1 and write nothing if the share of held-out images that are classified "
        "right is below",
    )
    group.add_argument(
        "--wished_precision",
        type=types.fraction,
        default=0.95,
        metavar="X",
        help="metrics.json says from which confidence on so many answers are right (default: "
        "%(default)s)",
    )


def _add_model(group: Any) -> None:
    group.add_argument(
        "--model",
        "--tfhub_module",
        default=builtin.NAME,
        metavar="HANDLE",
        help="as of run (default: %(default)s)",
    )
    model.add_arguments(group)


def _add_head(group: Any) -> None:
    group.add_argument(
        "--head",
        choices=["logistic", "mlp"],
        default="logistic",
        help="multinomial logistic regression, its regularisation chosen by cross-validation; or a "
        "hidden layer with dropout (default: %(default)s)",
    )
    group.add_argument(
        "--class_weight",
        choices=["none", "balanced"],
        default="none",
        help="whether each image counts the same, or each class; not of fine-tuning (default: "
        "%(default)s)",
    )
    group.add_argument(
        "--folds",
        type=types.positive,
        default=5,
        metavar="N",
        help="of the cross-validation, from 2 (default: %(default)s)",
    )
    group.add_argument(
        "--hidden_units",
        type=types.positive,
        default=DEFAULTS["hidden_units"],
        metavar="N",
        help="of --head mlp (default: %(default)s)",
    )
    rates: tuple[tuple[str, Any, str], ...] = (
        ("train_epochs", types.positive, "how often each image is seen (default: 50; 5)"),
        ("batch_size", types.positive, "images in a step (default: 128; 32)"),
        ("learning_rate", types.above_zero, "at its height (default: 0.001; 0.005)"),
        ("momentum", types.fraction, "of gradient descent (default: Adam instead of it; 0.9)"),
        ("dropout_rate", types.fraction, "share of the last layer's inputs (default: 0.2; 0.2)"),
        ("l1_regularizer", types.from_zero, "of the head's kernels (default: 0; 0)"),
        (
            "l2_regularizer",
            types.from_zero,
            "of the head's kernels (default: 0; 0.0001; --head logistic: by cross-validation)",
        ),
        (
            "label_smoothing",
            types.fraction,
            "share of a label that is spread over all classes (default: 0; 0.1)",
        ),
    )
    for name, kind, what in rates:
        group.add_argument(
            f"--{name}",
            type=kind,
            metavar="N" if kind is types.positive else "X",
            help=f"of --head mlp; of --do_fine_tuning: {what}",
        )
