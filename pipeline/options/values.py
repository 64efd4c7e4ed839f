"""What a run is asked to do, as small frozen values: each room of the program gets its own.

Made once from the command line, at the door; nothing behind it looks at flags.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from apache_beam.options.pipeline_options import PipelineOptions

from transforms.dataset.scores import Activation
from transforms.engines import EngineChoice, Precision
from transforms.images.spec import DecodeMode, PixelMode
from transforms.inputs.kept import KeptColumn
from transforms.inputs.listing import InputFormat
from transforms.models.source import Layout, Pool, Task, ValueRange

Mode = Literal["append", "sync"]
BatchSize = int | Literal["auto"]


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """What to read.

    Attributes:
      paths: files, directories, globs.
      format: what a file is.
      image_key, id_key: features of a `tf.Example`.
      keep: features that become columns, by name or with their types.
      label_from_parent: whether the name of an image's directory becomes a column.
      version: what tells that an image has changed.
    """

    paths: tuple[str, ...]
    format: InputFormat
    image_key: str
    id_key: str | None
    keep: tuple[KeptColumn | str, ...]
    label_from_parent: bool
    version: Literal["mtime", "sha256"]


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it is called.

    Attributes:
      handle: directory, archive, URL, …, or the built-in's name.
      sha256: the only digest that is accepted; None: any.
      trusted: whether ops that reach outside the model are accepted.
      task, signature, tags, output_key, pool, arguments, value_range, layout, private_redirects: as
        in `ModelSource`.
    """

    handle: str
    sha256: str | None
    trusted: bool
    task: Task
    signature: str | None
    tags: tuple[str, ...] | None
    output_key: str | None
    pool: Pool | None
    arguments: tuple[tuple[str, Any], ...]
    value_range: ValueRange
    layout: Layout
    private_redirects: bool


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """What runs the model, and what is demanded of its numbers.

    Attributes:
      name, precision: as in `transforms.engines`.
      min_cosine: how far its numbers may be from TensorFlow's in float32.
      batch_size: images in a batch, at most.
      accept_model: whether a model is run that fails on the job's first images.
    """

    name: EngineChoice
    precision: Precision
    min_cosine: float
    batch_size: BatchSize
    accept_model: bool


@dataclasses.dataclass(frozen=True)
class PixelOptions:
    """How the model is to see images, and which are refused.

    Attributes:
      size: height and width of its input in pixels; None: what it fixes.
      pixels, decode, max_pixels, max_file_bytes: as in `ImageSpec`.
    """

    size: tuple[int, int] | None
    pixels: PixelMode
    decode: DecodeMode
    max_pixels: int
    max_file_bytes: int


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """Where the rows go, and how.

    Attributes:
      directory: local path or URI.
      rows_per_file: images in a part, about.
      overwrite: whether all is computed anew, in place of an earlier output.
      mode: what becomes of rows of changed and gone images.
      retry_errors: whether all error rows are tried again.
      keep_snapshots, keep_hours: how long rows that are replaced stay for those who read them: for
        so many further snapshots, or so long, whichever is longer.
    """

    directory: str
    rows_per_file: int
    overwrite: bool
    mode: Mode
    retry_errors: bool
    keep_snapshots: int
    keep_hours: float


@dataclasses.dataclass(frozen=True)
class ClassOptions:
    """What is told of the classes, besides the logits.

    Attributes:
      names_file: local file of class names, one a line.
      top_k: how many best classes; None: 5 where their names are known, else 0.
      activation: what makes scores of logits; None: the built-in's, else none.
    """

    names_file: str | None
    top_k: int | None
    activation: Activation | None


@dataclasses.dataclass(frozen=True)
class LimitOptions:
    """What is tolerated: shares from 0 to 1 of images that fail, and of rows that may go.

    Attributes:
      max_error_rate: of the images that are tried; None: a tenth, and never fewer than ten images.
      max_gone_rate: of the rows that are there.
      allow_unreadable: whether there may be containers with images that cannot be found.
    """

    max_error_rate: float | None
    max_gone_rate: float
    allow_unreadable: bool = False


@dataclasses.dataclass(frozen=True)
class WorkerOptions:
    """Where the workers are, and what they see.

    Attributes:
      elsewhere: whether they are on other machines.
      shared_filesystem: whether these see this machine's files under the same paths.
      model_staging_location: directory to which a model of this machine is uploaded for them; None:
        it is not.
    """

    elsewhere: bool
    shared_filesystem: bool
    model_staging_location: str | None


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """All of it.

    Attributes:
      words: the command line as it was typed, for the run's record.
      dry_run: whether the plan is printed and nothing done.
      beam: the options of Beam and its runners.
    """

    words: tuple[str, ...]
    input: InputOptions
    model: ModelOptions
    engine: EngineOptions
    pixels: PixelOptions
    output: OutputOptions
    classes: ClassOptions
    limits: LimitOptions
    workers: WorkerOptions
    dry_run: bool
    beam: PipelineOptions
