"""What is learnt from: the vectors with their labels, and the model that has made them."""

from __future__ import annotations

import numpy as np

from consumers.features import Features
from consumers.labelled import Labelled, gathered, on_disk
from consumers.labels import (
    Labels,
    groups_of_column,
    labels_of_column,
    labels_of_csv,
    labels_of_folders,
)
from pipeline.options.fingerprint import model_entries
from pipeline.options.model import stage_model
from pipeline.terminal.lines import say
from pipeline.terminal.words import count
from pipeline.training.values import TrainOptions
from transforms.errors import Parameter, UserError
from transforms.inputs.listing import Listing, list_images
from transforms.machine.shares import memory_share
from transforms.models.source import ModelSource, files_sha256

_LABEL_COLUMN = "label"

# Of this process's memory, for the vectors; they are there once more while they are learnt from.
_VECTORS_SHARE = 1 / 4


def list_folders(options: TrainOptions) -> Listing:
    """The images of `--image_dir`, whose folders can be classes.

    Raises:
      UserError: there are none, or too few of a class; nothing was computed yet.
    """
    assert options.image_dir is not None and options.embedding is not None
    shown = Parameter("image_dir", options.image_dir)
    limit = options.embedding.pixels.max_file_bytes
    try:
        listing = list_images([options.image_dir], max_file_bytes=limit)
    except UserError as error:
        raise UserError(*error.message.pieces, subject=shown) from error
    if options.labels.csv is not None:  # which says the classes
        return listing
    labels = labels_of_folders([ref.uri for ref in listing.refs], options.image_dir)
    if len(labels.classes) < 2:
        raise UserError(
            f"a folder for each class is needed, and at least two; there are images in "
            f"{count(len(labels.classes), 'folder')}: {', '.join(labels.classes) or 'none'}",
            subject=shown,
        )
    for name, images in zip(labels.classes, np.bincount(labels.targets), strict=True):
        if images < options.recipe.fewest:
            raise UserError(
                f"class {name!r} has {images} of the {options.recipe.fewest} images that are "
                "needed at least: add images of it, or leave it out",
                subject=shown,
            )
    return listing


def extractor(options: TrainOptions, features: Features) -> tuple[ModelSource, str]:
    """The model that has made the vectors, and the digest of its files.

    Raises:
      UserError: it is another one, or was called in another way.
    """
    source = stage_model(options.model)
    sha256 = files_sha256(source)
    there = features.fingerprint
    if not there:
        raise UserError("holds no vectors", subject=options.features)
    if there.get("input", "pixels") != "pixels":
        raise UserError(
            "decodes the images itself: no classifier of pixels can be made of it",
            subject=source.subject,
        )
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


def labelled_vectors(options: TrainOptions, features: Features) -> Labelled:
    """The vectors with their labels.

    Raises:
      UserError: there are none, or they are no labels.
    """
    labels = _labels(options, features)
    if labels.strangers:
        say(f"--labels_csv: {count(labels.strangers, 'name')} of no image here")
    if labels.unlabelled:
        say(f"passed over: {count(labels.unlabelled, 'image')} without a label")
    shape = (len(features), features.width)
    if 4 * shape[0] * shape[1] > _VECTORS_SHARE * memory_share():
        say(f"the vectors of {shape[0]:,} images are read from a file in the temporary directory")
        vectors: np.ndarray = features.to_numpy_on_disk(on_disk(shape))
    else:
        vectors = features.to_numpy()
    if labels.unlabelled:
        vectors = gathered(vectors, labels.rows)
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
