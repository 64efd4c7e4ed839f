"""`python -m pipeline.inspect MODEL`: what a model is, and whether it follows the image API.

The exit code is 0 if it does, 1 if a check fails, 2 for a mistake in the command.
"""

from __future__ import annotations

from pipeline import start

if __name__ == "__main__":  # first, as what is imported below may fail
    start.end_process(start.begin("pipeline.inspect:main"))

import argparse
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

from pipeline import exit_codes
from pipeline.terminal import logs

if TYPE_CHECKING:
    from transforms.examine.examination import Examination
    from transforms.models.source import ModelSource

CONFORMANT, NOT_CONFORMANT = 0, 1


def main(argv: list[str] | None = None) -> int:
    """Examines a model and prints what was found; returns the exit code."""
    logs.set_up(verbose=False)
    from pipeline.terminal.errors import told
    from transforms.errors import UserError

    try:
        options = _parser().parse_args(argv)
        source, image_size = _source(options)
        from pipeline.terminal.model_text import model_json, model_table
        from transforms.examine.examination import examine

        examination = examine(source, image_size)
    except UserError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return exit_codes.MISTAKE
    command = _run_command(options, examination)
    if options.json:
        print(json.dumps(model_json(source, examination, command), indent=2))
    else:
        print(model_table(source, examination, command))
    return CONFORMANT if examination.is_conformant else NOT_CONFORMANT


def _parser() -> argparse.ArgumentParser:
    from pipeline.options import model
    from pipeline.options.parser import Parser

    parser = Parser(
        "inspect",
        description="What a model is, and whether it follows TensorFlow Hub's image API.",
        epilog="Exit codes: 0 it follows the API; 1 a check fails; 2 a mistake in the command.",
    )
    parser.add_argument("model", metavar="MODEL", help="as --model of run")
    model.add_arguments(parser)
    parser.set_defaults(task=None)  # what the model looks like
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser


def _source(options: Any) -> tuple[ModelSource, tuple[int, int] | None]:
    from transforms.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from pipeline.options import model

    size = model.image_size(options)
    asked = argparse.Namespace(**vars(options) | {"task": options.task or "feature_vector"})
    return model.stage_model(model.model_options(asked)), size


def _run_command(options: Any, examination: Examination) -> str | None:
    """The `pipeline.run` command for the model; None if it cannot be run."""
    parser = _parser()
    from pipeline.options import program
    from pipeline.options.written import written
    from transforms.models import builtin

    loaded = examination.loaded
    added: dict[str, Any] = {}
    if loaded is None:
        return None
    if examination.width is None and loaded.kind == "pixels":
        if examination.remedy is None:
            return None
        added[examination.remedy.name] = examination.remedy.value
    looks_like = "classification" if examination.classifier_hint else "feature_vector"
    words = ["--input", "PHOTOS", "--output", "FEATURES"]
    words += ["--model", options.model, "--task", options.task or looks_like]
    for name in ("signature", "tags", "output_key", "pool", "model_args", "model_sha256"):
        value = added.get(name, getattr(options, name))
        words += [] if value is None else [f"--{name}", value]
    for name in ("value_range", "model_layout"):
        value = getattr(options, name)
        words += [f"--{name}={value}"] if value != parser.get_default(name) else []
    words += ["--trust_model"] if options.trust_model else []
    words += ["--private_redirects"] if options.private_redirects else []
    is_free = loaded.kind == "pixels" and None in (loaded.height, loaded.width)
    knows_size = examination.description.own is not None
    if is_free and (options.image_size is not None or not knows_size):
        sizes = zip((loaded.height, loaded.width), builtin.IMAGE_SIZE, strict=True)
        usual = "x".join(str(size or default) for size, default in sizes)
        words += ["--image_size", options.image_size or usual]
    if examination.batch_size is not None:
        words += ["--batch_size", str(examination.batch_size)]
    return shlex.join([*program.called("run").split(), *written(words)])
