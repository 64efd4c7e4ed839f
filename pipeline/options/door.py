"""From the words of the command line to the values that the program works with."""

from __future__ import annotations

from collections.abc import Sequence

from apache_beam.options.pipeline_options import TestOptions

from pipeline.options import arguments, model, values, workers
from transforms.inputs import kept
from transforms.storage.secrets import is_secret_name, keep_secret, masked


def read_options(words: Sequence[str]) -> values.RunOptions:
    """The options of `pipeline.run`.

    Raises:
      UserError: a flag is missing, unknown or has an unusable value, or names what workers on
        other machines cannot see.
      SystemExit: after `--help`.
    """
    parsed = arguments.parse(list(words))
    for name, value in parsed.get_all_options(drop_default=True).items():
        if isinstance(value, str) and is_secret_name(name):
            keep_secret(value)  # libraries may tell it in their errors
    options = values.RunOptions(
        words=tuple(words),
        input=values.InputOptions(
            paths=tuple(parsed.input),
            format=parsed.input_format,
            image_key=parsed.tfrecord_image_key,
            id_key=parsed.tfrecord_id_key,
            keep=tuple(kept.declared(word) for word in (parsed.keep or "").split(",") if word),
            label_from_parent=parsed.label_from_parent,
            version=parsed.version,
        ),
        model=model.model_options(parsed),
        engine=values.EngineOptions(
            name=parsed.engine,
            precision=parsed.precision,
            min_cosine=parsed.min_cosine,
            batch_size=parsed.batch_size,
            accept_model=parsed.accept_model,
        ),
        pixels=values.PixelOptions(
            size=model.image_size(parsed),
            pixels=parsed.pixels,
            decode=parsed.decode,
            max_pixels=parsed.max_pixels,
            max_file_bytes=parsed.max_file_bytes,
        ),
        output=values.OutputOptions(
            directory=parsed.output,
            rows_per_file=parsed.rows_per_file,
            overwrite=parsed.overwrite,
            mode=parsed.mode,
            retry_errors=parsed.retry_errors,
            keep_snapshots=parsed.keep_snapshots,
            keep_hours=parsed.keep_hours,
        ),
        classes=values.ClassOptions(
            names_file=parsed.labels_file,
            top_k=parsed.top_k,
            activation=parsed.activation,
        ),
        limits=values.LimitOptions(
            max_error_rate=parsed.max_error_rate,
            max_gone_rate=parsed.max_gone_rate,
            allow_unreadable=parsed.allow_unreadable,
        ),
        workers=workers.worker_options(parsed),
        dry_run=bool(parsed.view_as(TestOptions).dry_run),
        beam=parsed,
    )
    # What Beam has of them travels with the job, and whoever may look at the job reads it.
    parsed.model = masked(parsed.model)
    workers.refuse_what_they_cannot_see(options)
    return options
