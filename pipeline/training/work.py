"""One training from the options to the exit code: embed, learn, fine-tune, judge, write."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator

from consumers.classifier_files import Classifier, write_classifier
from consumers.export.classifier import LABELS_NAME
from consumers.export.directory import appears_at_once
from consumers.export.tflite import to_tflite
from consumers.features import Features, load_features
from consumers.labelled import Labelled
from consumers.labels import (
    Labels,
    groups_of_column,
    labels_of_column,
    labels_of_csv,
    labels_of_folders,
)
from consumers.learning import Learned, learn
from consumers.relearning import Relearned, relearn
from pipeline import PROGRAM, __version__, exit_codes, job
from pipeline.options.fingerprint import model_entries
from pipeline.options.model import stage_model
from pipeline.output.announcement import announced
from pipeline.terminal import streams
from pipeline.terminal.lines import say
from pipeline.terminal.words import count
from pipeline.training.text import trained_lines
from pipeline.training.values import TrainOptions, Tuning
from transforms import storage
from transforms.errors import Parameter, UserError, one_line
from transforms.images.spec import ImageSpec
from transforms.inputs.listing import list_images
from transforms.models.source import ModelSource, files_sha256

_LABEL_COLUMN = "label"


class AccuracyError(UserError):
    """The classifier is less accurate than is wanted; no model was written."""

    exit_code = exit_codes.FAILED


class _RunFailedError(Exception):
    """The run that makes the vectors has failed, and has said why."""


def train(options: TrainOptions) -> int:
    """Trains a classifier, and writes it if it is good enough.

    Returns:
      the exit code: 0, or 1 if the run that makes the vectors has failed.

    Raises:
      AccuracyError: it is less accurate than is wanted.
      UserError: the options, the images or their labels are wrong; no model was written.
    """
    say(*options.notes)
    try:
        with _target(options) as directory:
            classifier, learned = _trained(options)
            say("writing the model")
            write_classifier(directory, classifier, learned, options.recipe)
            _write_further_files(options, directory, classifier)
    except _RunFailedError:
        return exit_codes.FAILED
    lines = trained_lines(options, classifier, learned)
    print("\n".join(map(streams.shown, lines)), flush=True)
    return exit_codes.DONE


@contextlib.contextmanager
def _target(options: TrainOptions) -> Iterator[str]:
    """Where the model is written; what is wrong with its place is told before any work."""
    for path in filter(None, (options.tflite, options.labels_file)):
        if storage.is_local(path) and not os.path.isdir(os.path.dirname(os.path.abspath(path))):
            raise UserError("there is no directory to write it into", subject=path)
    if options.output is not None:
        with appears_at_once(options.output, options.overwrite) as directory:
            yield directory
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield directory


def _trained(options: TrainOptions) -> tuple[Classifier, Learned]:
    if options.embedding is not None:
        with announced(options.features):
            if job.run(options.embedding) != exit_codes.DONE:
                raise _RunFailedError
    features = load_features(options.features)
    source, sha256 = _extractor(options, features)
    learned = learn(_labelled(options, features), options.recipe, say)
    relearned = None
    if options.tuning is not None:
        relearned = _fine_tuned(options, options.tuning, learned, source, features)
    classifier = _classifier(options, source, sha256, features, learned, relearned)
    found, wanted = classifier.metrics.accuracy, options.accuracy_wanted
    if wanted is not None and found.value < wanted:
        raise AccuracyError(
            f"the accuracy is {found.value:.4f}, {found.part:,} of {found.whole:,} images that "
            "were held out; no model was written",
            subject=Parameter("assert_accuracy_at_least", wanted),
        )
    return classifier, learned


def _extractor(options: TrainOptions, features: Features) -> tuple[ModelSource, str]:
    """The model that has made the vectors, and the digest of its files.

    Raises:
      UserError: it is another one, or was called in another way.
    """
    source = stage_model(options.model)
    sha256 = files_sha256(source)
    there = features.fingerprint
    if not there:
        raise UserError("holds no vectors", subject=options.features)
    asked = model_entries(source, sha256)
    if asked["model_sha256"] != there["model_sha256"]:
        raise UserError(
            f"is another model than the one that has made the vectors in {options.features} "
            f"({there['model']}, SHA-256 {there['model_sha256']}…); give that one",
            subject=source.subject,
        )
    for name in sorted(asked.keys() | (there.keys() & {"value_range", "model_layout"})):
        made = there.get(name, "default")
        if asked.get(name, "default") != made:
            raise UserError(
                f"the vectors in {options.features} were made with {made}", subject=f"--{name}"
            )
    return source, sha256


def _labelled(options: TrainOptions, features: Features) -> Labelled:
    """The vectors with their labels.

    Raises:
      UserError: there are none, or they are no labels.
    """
    labels = _labels(options, features)
    if labels.unlabelled:
        say(f"passed over: {count(labels.unlabelled, 'image')} without a label")
    vectors = features.to_numpy()
    if labels.unlabelled:
        vectors = vectors[labels.rows]
    groups = None
    name = options.labels.group_column
    if name is not None:
        column = features.select([name]).to_arrow()[name].take(labels.rows)
        groups = groups_of_column(column, name)
    return Labelled(features.ids[labels.rows], vectors, labels.targets, labels.classes, groups)


def _labels(options: TrainOptions, features: Features) -> Labels:
    asked = options.labels
    if asked.csv is not None:
        return labels_of_csv(asked.csv, features.ids.tolist(), asked.is_multi_label)
    if options.image_dir is not None:
        uris = features.select(["uri"]).to_arrow()["uri"].to_pylist()
        return labels_of_folders(uris, options.image_dir)
    name = asked.column or _LABEL_COLUMN
    if name not in features.columns:
        raise UserError(
            f"{options.features} has no such column; it has {', '.join(features.columns)}; or "
            "give ",
            Parameter("labels_csv"),
            subject=Parameter("label_column", name),
        )
    return labels_of_column(features.select([name]).to_arrow()[name], name)


def _fine_tuned(
    options: TrainOptions,
    tuning: Tuning,
    learned: Learned,
    source: ModelSource,
    features: Features,
) -> Relearned:
    assert options.embedding is not None  # the options say so
    max_bytes = options.embedding.pixels.max_file_bytes
    listing = list_images(list(options.embedding.input.paths), max_file_bytes=max_bytes)
    height, width = _image_size(features)
    pixels = options.embedding.pixels
    image = ImageSpec(
        height,
        width,
        pixels=pixels.pixels,
        decode=pixels.decode,
        max_pixels=pixels.max_pixels,
        max_file_bytes=max_bytes,
    )
    return relearn(
        learned,
        options.recipe,
        source,
        {ref.id: ref for ref in listing.refs if ref.problem is None},
        image,
        tuning.options,
        tuning.losses,
        tuning.places,
        say,
    )


def _image_size(features: Features) -> tuple[int, int]:
    """Height and width in pixels of the images that the model saw."""
    height, _, width = features.fingerprint["image_size"].partition("x")
    return int(height), int(width)


def _classifier(
    options: TrainOptions,
    source: ModelSource,
    sha256: str,
    features: Features,
    learned: Learned,
    relearned: Relearned | None,
) -> Classifier:
    tuned = None if relearned is None else relearned.tuned
    more = {} if tuned is None else {"epochs": [dataclasses.asdict(s) for s in tuned.scores]}
    best = learned if relearned is None else relearned
    folder = os.path.basename((options.image_dir or options.features).rstrip("/"))
    return Classifier(
        source=source,
        source_sha256=sha256,
        tuned=None if tuned is None else tuned.extractor,
        head=best.head,
        metrics=best.metrics,
        image_size=_image_size(features),
        name=os.path.basename(storage.absolute(options.output or options.features).rstrip("/")),
        data=f"the images of {folder}",
        group_column=options.labels.group_column,
        program=f"{PROGRAM} {__version__}",
        more=more,
    )


def _write_further_files(options: TrainOptions, directory: str, classifier: Classifier) -> None:
    if options.tflite is not None:
        tflite = to_tflite(directory, classifier.image_size)
        say(f"TFLite: logits differ from TensorFlow's by {tflite.max_difference:.1e} at most")
        _write_whole(options.tflite, tflite.content)
    if options.labels_file is not None:
        with open(os.path.join(directory, LABELS_NAME), "rb") as file:
            _write_whole(options.labels_file, file.read())


def _write_whole(path: str, content: bytes) -> None:
    """Writes a file that appears with all of its content."""

    def write(local_path: str) -> None:
        with open(local_path, "wb") as file:
            file.write(content)

    try:
        storage.write_atomically(path, write)
    except OSError as error:
        raise UserError(f"cannot be written: {one_line(error)}", subject=path) from error
