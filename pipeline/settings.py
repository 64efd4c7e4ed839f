"""Options to what the transforms need: image spec, model, columns, and their fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from pipeline import PROGRAM, __version__
from pipeline.options import model as model_options
from pipeline.options.arguments import ImageOptions, kept_names
from pipeline.options.model import image_size
from pipeline.options.types import AUTO
from transforms import engines
from transforms.dataset import scores
from transforms.dataset.columns import PartFormat
from transforms.engines import parity
from transforms.engines.batch_size import measure_batch_size
from transforms.errors import UserError, one_line
from transforms.images.decode import blank_images
from transforms.images.spec import ImageSpec
from transforms.inputs.examples import ExampleSpec, check_feature, infer_columns
from transforms.models import builtin, loading
from transforms.models import source as models


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides what is computed and how it is written; travels to the workers.

    Attributes:
      source: the model.
      engine, precision: what runs it.
      parity: how far the engine is from TensorFlow in float32; None for that itself.
      passed_over: why `--engine auto` did not take an engine that is installed; None: it did.
      image, examples, part_format: what is read and written.
      batch_size: images in a batch, at most.
      rates: images/s by batch size, where `--batch_size auto` has measured them.
    """

    source: models.ModelSource
    engine: engines.EngineName
    precision: engines.Precision
    parity: parity.Parity | None
    passed_over: str | None
    image: ImageSpec
    examples: ExampleSpec
    part_format: PartFormat
    batch_size: int
    rates: dict[int, float]


def open_model(options: ImageOptions) -> models.ModelSource:
    """Stages the model and loads it: seconds that listing can use as well.

    Raises:
      UserError: the model cannot be had, is not trusted or cannot be loaded.
    """
    source = model_options.source(options)
    name, *others = engines.candidates(options.engine)
    try:
        engines.load(source, name, options.precision)
    except UserError:
        if not others:
            raise
    return source


def resolve(
    options: ImageOptions,
    source: models.ModelSource,
    containers: list[str],
    before: str | None = None,
) -> Settings:
    """Loads the model, tries it on one blank image, and settles what the options leave open.

    Args:
      options: the command line.
      source: the model, as `open_model` has opened it.
      containers: the TFRecord files among the inputs; the first gives the types of kept columns.
      before: the engine of the parts that are there; `--engine auto` stays with it.

    Raises:
      UserError: the model cannot be used, or options do not fit it or each other.
    """
    examples = _example_spec(options, containers)
    name, image, measured, passed_over = _choose_engine(options, source, before)
    engine = engines.load(source, name, options.precision)
    vector_width = _try_engine(engine, source.name, image, options.batch_size)
    batch_size = options.batch_size
    rates: dict[int, float] = {}
    if batch_size == AUTO:
        batch_size, rates = measure_batch_size(engine, image)
    class_names = _class_names(options, source, vector_width)
    activation: scores.Activation = options.activation or (
        "softmax" if source.is_builtin and options.task == "classification" else "none"
    )
    top_k = options.top_k
    if top_k is None:
        top_k = 5 if class_names else 0
    part_format = PartFormat(
        task=options.task,
        width=vector_width,
        has_label=options.label_from_parent,
        kept=examples.keep,
        top_k=min(top_k, vector_width),
        class_names=class_names,
        activation=activation,
        program=f"{PROGRAM} {__version__}",
    )
    part_format.schema()
    fingerprint = _fingerprint(options, source, image, part_format, name)
    return Settings(
        source=source,
        engine=name,
        precision=options.precision,
        parity=measured,
        passed_over=passed_over,
        image=image,
        examples=examples,
        part_format=dataclasses.replace(part_format, fingerprint=fingerprint),
        batch_size=batch_size,
        rates=rates,
    )


def _choose_engine(
    options: ImageOptions, source: models.ModelSource, before: str | None
) -> tuple[engines.EngineName, ImageSpec, parity.Parity | None, str | None]:
    """The first engine that runs the model within the tolerance, and why not one before it."""
    names = engines.candidates(options.engine)
    names = [name for name in names if name == before] or names
    passed_over = None
    for name in names:
        try:
            engine = engines.load(source, name, options.precision)
            image = _image_spec(options, engine.model)
            return name, image, _parity(options, source, name, image), passed_over
        except UserError as error:
            if name == names[-1]:
                raise
            passed_over = str(error)
    raise AssertionError("there is always an engine")


def _parity(
    options: ImageOptions, source: models.ModelSource, name: engines.EngineName, image: ImageSpec
) -> parity.Parity | None:
    if image.kind != "pixels":
        return None
    return parity.check_parity(
        *(source, name, options.precision, image.height, image.width), options.min_cosine
    )


def _example_spec(options: ImageOptions, containers: list[str]) -> ExampleSpec:
    names = kept_names(options)
    if names and not containers:
        raise UserError("--keep takes features of TFRecord files; there are none in the input")
    if options.tfrecord_id_key and not containers:
        raise UserError("--tfrecord_id_key: there are no TFRecord files in the input")
    if containers:
        check_feature(containers[0], "--tfrecord_image_key", options.tfrecord_image_key)
    if options.tfrecord_id_key:
        check_feature(containers[0], "--tfrecord_id_key", options.tfrecord_id_key)
    return ExampleSpec(
        image_key=options.tfrecord_image_key,
        id_key=options.tfrecord_id_key,
        keep=infer_columns(containers[0], names) if names else (),
    )


def _image_spec(options: ImageOptions, model: loading.LoadedModel) -> ImageSpec:
    height, width = 0, 0
    if model.kind == "pixels":
        height, width = _image_size(options, (model.height, model.width))
    elif options.image_size:
        raise UserError("--image_size: the model decodes and resizes the images itself")
    elif options.decode != "exact":
        raise UserError(f"--decode {options.decode}: the model decodes the images itself")
    return ImageSpec(
        height=height,
        width=width,
        pixels=options.pixels,
        decode=options.decode,
        kind=model.kind,
        max_pixels=options.max_pixels,
        max_file_bytes=options.max_file_bytes,
    )


def _image_size(options: ImageOptions, fixed: tuple[int | None, int | None]) -> tuple[int, int]:
    asked = image_size(options)
    if asked is not None:
        if any(size is not None and size != want for size, want in zip(fixed, asked, strict=True)):
            takes = "x".join("any" if size is None else str(size) for size in fixed)
            raise UserError(f"--image_size {asked[0]}x{asked[1]}: the model takes {takes} only")
        return asked
    if fixed[0] is not None and fixed[1] is not None:
        return fixed[0], fixed[1]
    if options.model == builtin.NAME:
        return builtin.IMAGE_SIZE
    raise UserError(
        f"--model {options.model} takes images of any size; say with --image_size HxW which one "
        "it was trained for, for example --image_size 224x224"
    )


def _try_engine(engine: engines.Engine, name: str, image: ImageSpec, batch_size: int | str) -> int:
    """The length of the model's vectors, seen on one blank image and on two."""
    for count in (1,) if batch_size == 1 else (1, 2):
        blank = blank_images(count, image)
        try:
            width = engine(blank).shape[1]
        except UserError:
            raise
        except Exception as error:
            hint = "; it works on one image at a time: give --batch_size 1" if count == 2 else ""
            raise UserError(
                f"--model {name}: fails on blank {blank.dtype} images {list(blank.shape)}: "
                f"{one_line(error)}{hint}"
            ) from error
    if width < 1:
        raise UserError(f"--model {name}: answers vectors of length 0")
    return width


def _class_names(
    options: ImageOptions, source: models.ModelSource, classes: int
) -> tuple[str, ...]:
    if options.task != "classification":
        return ()
    if options.labels_file is None:
        return builtin.class_names() if source.is_builtin else ()
    path = options.labels_file
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = tuple(line.strip() for line in file.read().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--labels {path}: cannot be read: {one_line(error)}") from error
    if len(names) != classes:
        raise UserError(
            f"--labels {path}: {len(names)} names, but the model gives {classes} logits; "
            "there must be one name a line, in the order of the classes"
        )
    return names


def _fingerprint(
    options: ImageOptions,
    source: models.ModelSource,
    image: ImageSpec,
    part_format: PartFormat,
    engine: engines.EngineName,
) -> tuple[tuple[str, str], ...]:
    """The settings that decide ids, numbers and columns, by name: what one output shares."""
    kept = [f"{c.name}:{'list of ' if c.is_list else ''}{c.kind}" for c in part_format.kept]
    names = "\n".join(part_format.class_names)
    entries = {
        "model": source.name if source.is_builtin else "SavedModel",
        "model_sha256": models.files_sha256(source)[:16],
        "task": options.task,
        "input": image.kind,
        "image_size": f"{image.height}x{image.width}" if image.kind == "pixels" else "as stored",
        "signature": source.signature or "default",
        "tags": "default" if source.tags is None else ",".join(source.tags) or "none",
        "output_key": source.output_key or "default",
        "pool": source.pool or "none",
        "model_args": json.dumps(dict(source.arguments), sort_keys=True),
        "pixels": options.pixels,
        "decode": options.decode,
        "resize": "bilinear",
        "engine": engine,
        "precision": options.precision,
        "vector": f"{part_format.vector_column} float32[{part_format.width}]",
        "top_k": str(part_format.top_k),
        "activation": part_format.activation,
        "labels_sha256": hashlib.sha256(names.encode()).hexdigest()[:16] if names else "none",
        "label_from_parent": str(options.label_from_parent),
        "keep": ",".join(kept) or "none",
        "tfrecord_image_key": options.tfrecord_image_key,
        "version": options.version,
        "tfrecord_id_key": options.tfrecord_id_key or "FILE#INDEX",
    }
    return tuple(sorted(entries.items()))
