"""Options to what the transforms need: image spec, model, columns, and their fingerprint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pipeline import PROGRAM, __version__
from pipeline.classes import told_of_classes
from pipeline.options.fingerprint import fingerprint
from pipeline.options.model import stage_model
from pipeline.options.values import (
    BatchSize,
    ClassOptions,
    EngineOptions,
    InputOptions,
    ModelOptions,
    PixelOptions,
    RunOptions,
)
from transforms import engines
from transforms.dataset.columns import PartFormat
from transforms.engines import parity
from transforms.engines.batch_size import measure_batch_size
from transforms.errors import Message, Parameter, UserError, one_line
from transforms.examine.checks import Check
from transforms.images.decode import blank_images
from transforms.images.spec import ImageSpec
from transforms.inputs import kept
from transforms.inputs.examples import ExampleSpec
from transforms.inputs.sampling import EXAMPLES_LOOKED_AT, FEW_EXAMPLES, look_at
from transforms.models.described import read_description
from transforms.models.loading import LoadedModel
from transforms.models.source import ModelSource, files_sha256


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides what is computed and how it is written; travels to the workers.

    Attributes:
      source: the model.
      engine, precision: what runs it.
      parity: how far the engine is from TensorFlow in float32; None for that itself.
      passed_over: why `--engine auto` did not take an engine that is installed; None: it did.
      image, examples, part_format: what is read and written.
      load_tensorflow: whether decoding needs TensorFlow: for all formats but JPEG.
      batch_size: images in a batch, at most.
      rates: images/s by batch size, where `--batch_size auto` has measured them.
      model_sha256: the digest with which another run gets this very model for its handle.
      checks: how the model did on the job's first images; empty: it was not tried on them.
    """

    source: ModelSource
    engine: engines.EngineName
    precision: engines.Precision
    parity: parity.Parity | None
    passed_over: Message | None
    image: ImageSpec
    examples: ExampleSpec
    part_format: PartFormat
    load_tensorflow: bool
    batch_size: int
    rates: dict[int, float]
    model_sha256: str = ""
    checks: tuple[Check, ...] = ()


def open_model(model: ModelOptions, engine: EngineOptions) -> ModelSource:
    """Stages the model and loads it: seconds that listing can use as well.

    Raises:
      UserError: the model cannot be had, is not trusted or cannot be loaded.
    """
    source = stage_model(model)
    name, *others = engines.candidates(engine.name)
    try:
        engines.load(source, name, engine.precision)
    except UserError:
        if not others:
            raise
    return source


def resolve(
    options: RunOptions,
    source: ModelSource,
    containers: list[str],
    before: Mapping[str, str] | None = None,
    only_jpegs: bool = False,
) -> Settings:
    """Loads the model, tries it on one blank image, and settles what the options leave open.

    Args:
      options: the command line.
      source: the model, as `open_model` has opened it.
      containers: the TFRecord files among the inputs; some of their Examples give the types of kept
        columns that are not declared.
      before: the fingerprint of the parts that are there; `--engine auto` stays with its engine,
        `--keep` with its types.
      only_jpegs: whether all images are.

    Raises:
      UserError: the model cannot be used, or options do not fit it or each other.
    """
    before = before or {}
    examples = _example_spec(options.input, containers, before.get("keep", ""))
    chosen = _choose_engine(options.engine, options.pixels, source, before.get("engine"))
    engine = engines.load(source, chosen.name, options.engine.precision)
    vector_width = _try_engine(engine, source.name, chosen.image, options.engine.batch_size)
    batch_size = options.engine.batch_size
    rates: dict[int, float] = {}
    if batch_size == "auto":
        batch_size, rates = measure_batch_size(engine, chosen.image)
    part_format = _part_format(options.classes, source, vector_width)
    part_format = dataclasses.replace(
        part_format, has_label=options.input.label_from_parent, kept=examples.keep
    )
    part_format.schema()
    model_sha256 = files_sha256(source)
    entries = fingerprint(
        options.input,
        source,
        model_sha256,
        chosen.name,
        options.engine.precision,
        chosen.image,
        part_format,
    )
    return Settings(
        source=source,
        engine=chosen.name,
        precision=options.engine.precision,
        parity=chosen.parity,
        passed_over=chosen.passed_over,
        image=chosen.image,
        examples=examples,
        part_format=dataclasses.replace(part_format, fingerprint=entries),
        load_tensorflow=not only_jpegs,
        batch_size=batch_size,
        rates=rates,
        model_sha256=source.sha256 or model_sha256,
    )


def _part_format(classes: ClassOptions, source: ModelSource, width: int) -> PartFormat:
    """The columns that follow from the model's answers."""
    told = told_of_classes(classes, source, width)
    return PartFormat(
        task=source.task,
        width=width,
        top_k=min(told.top_k, width),
        class_names=told.names,
        activation=told.activation,
        program=f"{PROGRAM} {__version__}",
    )


@dataclasses.dataclass(frozen=True)
class _ChosenEngine:
    """An engine, what it wants to see, how far it is off, and why not one before it."""

    name: engines.EngineName
    image: ImageSpec
    parity: parity.Parity | None
    passed_over: Message | None


def _choose_engine(
    options: EngineOptions, pixels: PixelOptions, source: ModelSource, before: str | None
) -> _ChosenEngine:
    """The first engine that runs the model within the tolerance."""
    names = engines.candidates(options.name)
    names = [name for name in names if name == before] or names
    passed_over: Message | None = None
    for name in names:
        try:
            engine = engines.load(source, name, options.precision)
            image = _image_spec(pixels, source, engine.model)
            measured = None
            if image.kind == "pixels":
                measured = parity.check_parity(
                    *(source, name, options.precision, image.height, image.width),
                    options.min_cosine,
                )
            return _ChosenEngine(name, image, measured, passed_over)
        except UserError as error:
            if name == names[-1]:
                raise
            passed_over = Message(error.pieces)
    raise AssertionError("there is always an engine")


def _example_spec(options: InputOptions, containers: list[str], before: str) -> ExampleSpec:
    """What is read of Examples; types as declared, else as before, else as the Examples have them.

    Args:
      options: what to keep, and the keys.
      containers: the TFRecord files.
      before: kept columns of the parts that are there, as their fingerprint has them.
    """
    if options.keep and not containers:
        raise UserError("--keep takes features of TFRecord files; there are none in the input")
    if options.id_key and not containers:
        raise UserError("--tfrecord_id_key: there are no TFRecord files in the input")
    there = {c.name: c for c in map(kept.declared, before.split(",")) if not isinstance(c, str)}
    wanted = [there.get(one, one) if isinstance(one, str) else one for one in options.keep]
    open_types = any(isinstance(one, str) for one in wanted)
    seen = look_at(containers, EXAMPLES_LOOKED_AT if open_types else FEW_EXAMPLES)
    seen.check(Parameter("image_key", options.image_key))
    if options.id_key:
        seen.check(Parameter("id_key", options.id_key))
    return ExampleSpec(
        image_key=options.image_key, id_key=options.id_key, keep=seen.columns(wanted)
    )


def _image_spec(options: PixelOptions, source: ModelSource, model: LoadedModel) -> ImageSpec:
    height, width = 0, 0
    if model.kind == "pixels":
        height, width = _image_size(options.size, source, (model.height, model.width))
    elif options.size:
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


def _image_size(
    asked: tuple[int, int] | None, source: ModelSource, fixed: tuple[int | None, int | None]
) -> tuple[int, int]:
    if asked is not None:
        if any(size is not None and size != want for size, want in zip(fixed, asked, strict=True)):
            takes = "x".join("any" if size is None else str(size) for size in fixed)
            raise UserError(f"--image_size {asked[0]}x{asked[1]}: the model takes {takes} only")
        return asked
    if fixed[0] is not None and fixed[1] is not None:
        return fixed[0], fixed[1]
    described = read_description(source)
    if described is not None:
        return described.image_size
    raise UserError(
        f"--model {source.name} takes images of any size; say with --image_size HxW which one "
        "it was trained for, for example --image_size 224x224"
    )


def _try_engine(engine: engines.Engine, name: str, image: ImageSpec, batch_size: BatchSize) -> int:
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
