"""From the words of `pipeline.train` to the values that it works with."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from consumers.learning import Recipe
from consumers.relearning import HeadLosses, TuningPlaces
from consumers.training.fit import HeadOptions
from consumers.tuning.options import Augmentation, TuningOptions
from pipeline.options import model
from pipeline.options.arguments import own_parser
from pipeline.options.door import read_options
from pipeline.options.parser import no_such_option, similar_option
from pipeline.training import arguments, tuning_arguments
from pipeline.training.values import LabelOptions, TrainOptions, Tuning
from transforms import storage
from transforms.errors import UserError

# Options of run that say what a training settles itself.
_NOT_OF_TRAIN = frozenset(
    [
        "--input",
        "--output",
        "--mode",
        "--dry_run",
        "--labels",
        "--top_k",
        "--activation",
        "--label_from_parent",
    ]
)

# Images of a class: one is measured with, one chooses, the others are learnt from.
_FEWEST, _FEWEST_OF_TUNING = 3, 4


def read_train_options(words: Sequence[str]) -> TrainOptions:
    """The options of `pipeline.train`.

    Raises:
      UserError: one is missing, unknown, has an unusable value or does not go with another.
      SystemExit: after `--help`.
    """
    parser = arguments.training_parser()
    if list(words) == ["--version"]:
        parser.parse_args(words)  # prints it and ends
    own, of_run = _divided(arguments.as_written_out(words), parser)
    _refuse_misspelt(of_run, parser)
    given = parser.parse_args(own)
    _refuse_what_does_not_fit(given, of_run)
    kept = _kept(given)
    image_dir = None
    embedding = None
    if given.image_dir is not None:
        image_dir = storage.absolute(given.image_dir)
        embedding = read_options(_words_of_run(given, of_run, kept))
    return TrainOptions(
        features=kept,
        embedding=embedding,
        image_dir=image_dir,
        labels=LabelOptions(
            given.label_column, given.labels_csv, given.group_column, given.multi_label
        ),
        recipe=Recipe(
            head=_head(given),
            held_out=given.validation_split,
            seed=given.seed,
            precision_wanted=given.wished_precision,
            fewest=_FEWEST_OF_TUNING if given.do_fine_tuning else _FEWEST,
            near_duplicate=given.near_duplicates,
        ),
        tuning=_tuning(given) if given.do_fine_tuning else None,
        model=model.model_options(given),
        output=given.output,
        overwrite=given.overwrite,
        tflite=given.tflite_output_file,
        labels_file=given.labels_output_file,
        accuracy_wanted=given.assert_accuracy_at_least,
        notes=tuple(_notes(given)),
    )


def _divided(words: Sequence[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """The words of `train` and, with the values behind them, the options that it does not have."""
    own: list[str] = []
    of_run: list[str] = []
    known, runs = parser._option_string_actions, own_parser()._option_string_actions
    goes_to = own
    for word in words:
        if word.startswith("--"):
            flag = word.partition("=")[0]
            goes_to = own if flag in known else of_run
            goes_to.append(word)
            if goes_to is of_run and flag in runs and runs[flag].nargs == 0:
                goes_to = own  # a switch: what follows is no value of it
        else:
            goes_to.append(word)
    return own, of_run


def _refuse_misspelt(of_run: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Words that `train` does not know may be options of `run`."""
    own, runs = parser._option_string_actions, own_parser()._option_string_actions
    for word in of_run:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in runs and similar_option(flag, own):
            raise no_such_option(word, own)


def _refuse_what_does_not_fit(given: argparse.Namespace, of_run: Sequence[str]) -> None:
    if given.features_directory is None and given.image_dir is None:
        raise UserError("give the directory of a run, or --image_dir with a folder for each class")
    if given.features_directory is not None and given.image_dir is not None:
        raise UserError(
            "the vectors of these images are made anew; leave one of the two out",
            subject=f"--image_dir and {given.features_directory}",
        )
    if given.output is not None and storage.absolute(given.output) == storage.absolute(given.model):
        raise UserError("is the model that is learnt with", subject=f"--output {given.output}")
    if given.output is None and not (given.tflite_output_file or given.labels_output_file):
        raise UserError("--output is missing: give a directory for the SavedModel")
    if given.image_dir is None:
        if of_run:
            raise UserError(
                "is an option of run, and has an effect only with --image_dir", subject=of_run[0]
            )
        if given.do_fine_tuning:
            raise UserError("--do_fine_tuning needs the images: give --image_dir")
        if given.features_dir is not None:
            raise UserError("--features_dir: belongs to --image_dir")
    if given.image_dir is not None and given.label_column is not None:
        raise UserError("--label_column: with --image_dir the labels are the folders' names")
    if given.image_dir is not None and given.group_column is not None:
        raise UserError("--group_column: the vectors of --image_dir have no such column")
    for word in of_run:
        if word.partition("=")[0] in _NOT_OF_TRAIN:
            raise UserError("is settled by train; leave it out", subject=word.partition("=")[0])
    _refuse_directories_within(given)
    if given.label_column is not None and given.labels_csv is not None:
        raise UserError("--label_column and --labels_csv: give one of them")
    if given.multi_label and given.labels_csv is None:
        raise UserError("--multi_label needs --labels_csv; a column of lists needs no flag")
    if not 0 < given.validation_split < 1:
        raise UserError(
            f"--validation_split {given.validation_split:g}: is not above 0 and below 1"
        )
    if given.folds < 2:
        raise UserError("--folds: from 2")


def _refuse_directories_within(given: argparse.Namespace) -> None:
    """What lies in the model's directory would be in the way of it, and go with it."""
    if given.output is None:
        return
    model = os.path.abspath(given.output)
    for name in ("features_dir", "checkpoints", "summaries_dir", "image_dir"):
        path = getattr(given, name)
        if path is not None and os.path.commonpath([model, os.path.abspath(path)]) == model:
            raise UserError(
                "lies in the directory of the model; give another one", subject=f"--{name} {path}"
            )


def _beside(given: argparse.Namespace) -> str:
    """What the names of directories beside the model begin with."""
    return (given.output or given.tflite_output_file or given.labels_output_file).rstrip("/")


def _kept(given: argparse.Namespace) -> str:
    return given.features_directory or given.features_dir or f"{_beside(given)}-features"


def _model_words(given: argparse.Namespace) -> list[str]:
    """The flags that say how the model is called, as they were given."""
    parser = argparse.ArgumentParser(add_help=False)
    model.add_arguments(parser)
    words = []
    for action in parser._actions:
        value = getattr(given, action.dest)
        if value is True:
            words.append(action.option_strings[0])
        elif value not in (None, False):
            words.append(f"{action.option_strings[0]}={value}")
    return words


def _words_of_run(given: argparse.Namespace, of_run: Sequence[str], kept: str) -> list[str]:
    """The command line of the run that makes the vectors."""
    words = ["--input", given.image_dir, "--output", kept, "--label_from_parent", "--mode", "sync"]
    words += [f"--model={given.model}", *_model_words(given)]
    return [*words, *of_run]


# Flags by the names that what they set has for them.
_OF_HEAD = {
    "head": "kind",
    "class_weight": "class_weight",
    "folds": "folds",
    "seed": "seed",
    "train_epochs": "epochs",
    "batch_size": "batch_size",
    "learning_rate": "learning_rate",
    "momentum": "momentum",
    "dropout_rate": "dropout_rate",
    "l1_regularizer": "l1",
    "l2_regularizer": "l2",
    "label_smoothing": "label_smoothing",
    "hidden_units": "hidden_units",
}
_OF_TUNING = {
    "seed": "seed",
    "train_epochs": "epochs",
    "batch_size": "batch_size",
    "learning_rate": "learning_rate",
    "momentum": "momentum",
    "warm_up": "warmup",
    "label_smoothing": "label_smoothing",
    "patience": "patience",
    "checkpoint_steps": "checkpoint_steps",
}
_OF_LOSSES = {"dropout_rate": "dropout_rate", "l1_regularizer": "l1", "l2_regularizer": "l2"}


def _given(given: argparse.Namespace, names: Mapping[str, str]) -> dict[str, Any]:
    """The values of flags that were given, by the names of what they set."""
    values = {name: getattr(given, flag) for flag, name in names.items()}
    return {name: value for name, value in values.items() if value is not None}


def _head(given: argparse.Namespace) -> HeadOptions:
    """Where the model is fine-tuned, too, the rates of training are those of fine-tuning."""
    names = _OF_HEAD
    if given.do_fine_tuning:
        names = {flag: name for flag, name in names.items() if flag not in _OF_TUNING | _OF_LOSSES}
        names |= {"seed": "seed"}
    return HeadOptions(**_given(given, names))


def _tuning(given: argparse.Namespace) -> Tuning:
    augmentation = None
    if given.do_data_augmentation:
        names = [field.name for field in dataclasses.fields(Augmentation)]
        augmentation = Augmentation(**_given(given, dict(zip(names, names, strict=True))))
    values = {"label_smoothing": 0.1} | _given(given, _OF_TUNING)
    return Tuning(
        TuningOptions(augmentation=augmentation, **values),
        HeadLosses(**_given(given, _OF_LOSSES)),
        TuningPlaces(given.checkpoints or f"{_beside(given)}-checkpoints", given.summaries_dir),
    )


def _notes(given: argparse.Namespace) -> Iterator[str]:
    """A line for each option that was given and has no effect."""
    for name, why in tuning_arguments.WITHOUT_EFFECT.items():
        if getattr(given, name) is not None:
            yield f"--{name} has no effect any more: {why}"
    if given.do_fine_tuning and given.class_weight != "none":
        yield "--class_weight has an effect on the head alone: fine-tuning weighs images the same"
    at_work = {given.head}
    if given.do_fine_tuning:
        at_work |= {"fine-tuning"}
        at_work |= {"augmentation"} if given.do_data_augmentation else set()
    for name, takers in tuning_arguments.TAKEN_BY.items():
        value = getattr(given, name)
        is_given = value is not None and value != tuning_arguments.DEFAULTS.get(name)
        if is_given and not at_work & set(takers):
            yield f"--{name} has no effect here: it is for {_told(takers)}"


def _told(takers: Sequence[str]) -> str:
    flags = {
        "mlp": "--head mlp",
        "logistic": "--head logistic",
        "fine-tuning": "--do_fine_tuning",
        "augmentation": "--do_fine_tuning with --do_data_augmentation",
    }
    return " and ".join(flags[taker] for taker in takers)
