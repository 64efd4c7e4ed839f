"""Workers on other machines: what they cannot see is refused, and the model goes where they can."""

from __future__ import annotations

from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions

import runners
from pipeline.options.values import RunOptions, WorkerOptions
from transforms import storage
from transforms.errors import UserError
from transforms.models import shipping
from transforms.models.source import ModelSource

_STORES = "gs://, s3:// or hdfs://"


def add_worker_arguments(group: Any) -> None:
    """Adds the options for runners whose workers are other machines."""
    group.add_argument(
        "--shared_filesystem",
        action="store_true",
        help="all workers see the files of this machine, under the same paths",
    )
    group.add_argument(
        "--model_staging_location",
        metavar="DIR",
        help="where a model of this machine is uploaded for workers on others, once (default: "
        "models/ below --temp_location)",
    )


def worker_options(options: Any) -> WorkerOptions:
    """What the parsed options say of the workers."""
    location = options.model_staging_location
    temporary = options.view_as(GoogleCloudOptions).temp_location
    if location is None and temporary and not options.shared_filesystem:
        location = storage.join(temporary, "models")
    return WorkerOptions(
        elsewhere=runners.workers_are_elsewhere(options),
        shared_filesystem=options.shared_filesystem,
        model_staging_location=location,
    )


def refuse_what_they_cannot_see(options: RunOptions) -> None:
    """Refuses paths of this machine that workers on others would not find.

    Raises:
      UserError: with what to give instead.
    """
    workers = options.workers
    if not workers.elsewhere or workers.shared_filesystem:
        return
    name = runners.name_of(options.beam)
    named = [("--input", path) for path in options.input.paths]
    named.append(("--output", options.output.directory))
    for flag, path in named:
        if _is_here(path):
            raise UserError(
                f"{flag} {path}: on this machine, and the workers of {name} may be on "
                f"others: give {_STORES}, or --shared_filesystem if all see the same paths"
            )
    location = workers.model_staging_location
    if shipping.is_here_only(options.model.handle) and (location is None or _is_here(location)):
        raise UserError(
            f"--model {options.model.handle}: on this machine, and the workers of "
            f"{name} may be on others: give --temp_location or "
            f"--model_staging_location at {_STORES}, to which it is uploaded once, or "
            "--shared_filesystem if all see the same paths"
        )


def as_workers_get_it(source: ModelSource, workers: WorkerOptions) -> ModelSource:
    """The model as it travels to the workers; a model of this machine is uploaded if need be.

    Raises:
      UserError: it cannot be uploaded.
    """
    if not workers.elsewhere:
        return source
    location = workers.model_staging_location
    try:
        return shipping.for_other_machines(source, location)
    except OSError as error:
        raise UserError(
            f"--model_staging_location {location}: the model cannot be uploaded: {error}"
        ) from error


def _is_here(path: str) -> bool:
    return storage.is_local(path) or path.lower().startswith("file:")
