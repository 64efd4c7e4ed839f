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
from consumers.labels import labels_of_folders
from consumers.learning import Learned, learn
from consumers.relearning import Relearned, relearn
from pipeline import PROGRAM, __version__, exit_codes, job
from pipeline.options.model import stage_model
from pipeline.output.announcement import announced
from pipeline.terminal import streams
from pipeline.terminal.lines import say
from pipeline.training.text import trained_lines
from pipeline.training.values import TrainOptions
from pipeline.training.vectors import extractor, labelled_vectors, list_folders
from transforms import storage
from transforms.errors import Parameter, UserError, one_line
from transforms.images.spec import ImageSpec
from transforms.inputs.listing import Listing
from transforms.machine.tensorflow_import import import_tensorflow
from transforms.models.source import ModelSource
from transforms.models.trainable import load_trainable


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
            import_tensorflow()
            classifier, learned = _trained(options)
            say("writing the model")
            write_classifier(directory, classifier, learned, options.recipe)
            files = _further_files(options, directory, classifier)
    except _RunFailedError:
        return exit_codes.FAILED
    for path, content in files.items():
        _write_whole(path, content)
    lines = trained_lines(options, classifier, learned)
    print("\n".join(map(streams.shown, lines)), flush=True)
    return exit_codes.DONE


@contextlib.contextmanager
def _target(options: TrainOptions) -> Iterator[str]:
    """Where the model is written; what is wrong with its place is told before any work."""
    for path in filter(None, (options.tflite, options.labels_file)):
        parent = os.path.dirname(os.path.abspath(path))
        is_of_model = options.output is not None and parent == os.path.abspath(options.output)
        if storage.is_local(path) and not (os.path.isdir(parent) or is_of_model):
            raise UserError("there is no directory to write it into", subject=path)
    if options.output is not None:
        with appears_at_once(options.output, options.overwrite) as directory:
            yield directory
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield directory


def _trained(options: TrainOptions) -> tuple[Classifier, Learned]:
    listing = None if options.embedding is None else list_folders(options)
    # What cannot be fine-tuned is told before hours of embedding.
    trainable = None if options.tuning is None else load_trainable(stage_model(options.model))
    if options.embedding is not None:
        with announced(options.features):
            if job.run(options.embedding) != exit_codes.DONE:
                raise _RunFailedError
    features = load_features(options.features)
    source, sha256 = extractor(options, features)
    labelled = labelled_vectors(options, features)
    if listing is not None:
        _say_lost_classes(options, listing, labelled)
    learned = learn(labelled, options.recipe, say)
    relearned = None
    if options.tuning is not None and trainable is not None and listing is not None:
        image = _image_spec(options, features)
        refs = {ref.id: ref for ref in listing.refs if ref.problem is None}
        tuning = options.tuning
        relearned = relearn(
            *(learned, options.recipe, trainable, refs, image),
            *(tuning.options, tuning.losses, tuning.places, say),
        )
    classifier = _classifier(options, source, sha256, features, learned, relearned)
    found, wanted = classifier.metrics.accuracy, options.accuracy_wanted
    if wanted is not None and found.value < wanted:
        raise AccuracyError(
            f"the accuracy is {found.value:.4f}, {found.part:,} of {found.whole:,} images that "
            "were held out; no model was written",
            subject=Parameter("assert_accuracy_at_least", wanted),
        )
    return classifier, learned


def _say_lost_classes(options: TrainOptions, listing: Listing, labelled: Labelled) -> None:
    """Folders with images of which none could be used."""
    if options.labels.csv is None and options.image_dir is not None:
        uris = [ref.uri for ref in listing.refs]
        there = labels_of_folders(uris, options.image_dir).classes
        for name in sorted(set(there) - set(labelled.classes)):
            say(f"warning: no image of class {name!r} could be used, so it is left out")


def _image_spec(options: TrainOptions, features: Features) -> ImageSpec:
    """Size and pixels as the vectors' images had them."""
    assert options.embedding is not None
    pixels = options.embedding.pixels
    height, width = _image_size(features)
    return ImageSpec(
        height,
        width,
        pixels=pixels.pixels,
        decode=pixels.decode,
        max_pixels=pixels.max_pixels,
        max_file_bytes=pixels.max_file_bytes,
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
    more: dict[str, object] = {}
    if tuned is not None:
        more["epochs"] = [dataclasses.asdict(score) for score in tuned.scores]
        more["frozen"] = {
            "correct": learned.metrics.accuracy.part,
            "accuracy": learned.metrics.accuracy.value,
            "log_loss": learned.metrics.log_loss,
        }
    best = learned if relearned is None else relearned
    folder = os.path.basename((options.image_dir or options.features).rstrip("/"))
    return Classifier(
        source=source,
        source_sha256=sha256,
        tuned=None if tuned is None else tuned.extractor,
        head=best.head,
        metrics=best.metrics,
        held_out=best.held_out,
        image_size=_image_size(features),
        name=os.path.basename(storage.absolute(options.output or options.features).rstrip("/")),
        data=f"the images of {folder}",
        group_column=options.labels.group_column,
        program=f"{PROGRAM} {__version__}",
        more=more,
    )


def _further_files(
    options: TrainOptions, directory: str, classifier: Classifier
) -> dict[str, bytes]:
    """What is written besides the model, by path, once the model is there."""
    files: dict[str, bytes] = {}
    if options.labels_file is not None:
        with open(os.path.join(directory, LABELS_NAME), "rb") as file:
            files[options.labels_file] = file.read()
    if options.tflite is not None:
        tflite = to_tflite(directory, classifier.image_size)
        say(f"TFLite: logits differ from TensorFlow's by {tflite.max_difference:.1e} at most")
        files[options.tflite] = tflite.content
    return files


def _write_whole(path: str, content: bytes) -> None:
    """Writes a file that appears with all of its content."""

    def write(local_path: str) -> None:
        with open(local_path, "wb") as file:
            file.write(content)

    try:
        storage.write_atomically(path, write)
    except OSError as error:
        raise UserError(f"cannot be written: {one_line(error)}", subject=path) from error
