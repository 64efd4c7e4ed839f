"""`python -m pipeline.inspect MODEL`: what a model is, and whether it follows the image API.

The exit code is 0 if it does, 1 if a check fails, 2 for a mistake in the command.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

from pipeline.terminal import logs

if TYPE_CHECKING:
    from transforms.examine.examination import Examination
    from transforms.models.source import ModelSource

CONFORMANT, NOT_CONFORMANT, MISTAKE = 0, 1, 2

_MOST_FREQUENT_OPS = 8


def main(argv: list[str] | None = None) -> int:
    """Examines a model and prints what was found; returns the exit code."""
    logs.set_up(verbose=False)
    from pipeline.terminal.errors import told
    from transforms.errors import UserError

    try:
        options = _parser().parse_args(argv)
        source, image_size = _source(options)
        from transforms.examine.examination import examine

        examination = examine(source, image_size)
    except UserError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return MISTAKE
    command = _run_command(options, examination)
    if options.json:
        print(json.dumps(_as_json(source, examination, command), indent=2))
    else:
        print(_as_text(source, examination, command))
    return CONFORMANT if examination.is_conformant else NOT_CONFORMANT


def _parser() -> argparse.ArgumentParser:
    from pipeline.options import model

    parser = model.Parser(
        prog="python -m pipeline.inspect",
        description="What a model is, and whether it follows TensorFlow Hub's image API.",
        epilog="Exit codes: 0 it follows the API; 1 a check fails; 2 a mistake in the command.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="as --model of pipeline.run")
    model.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser


def _source(options: Any) -> tuple[ModelSource, tuple[int, int] | None]:
    from transforms.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from pipeline.options import model

    size = model.image_size(options)
    return model.stage_model(model.model_options(options)), size


def _run_command(options: Any, examination: Examination) -> str | None:
    """The `pipeline.run` command for the model; None if it cannot be run."""
    from transforms.models import builtin

    loaded = examination.loaded
    added: dict[str, Any] = {}
    if loaded is None:
        return None
    if examination.width is None and loaded.kind == "pixels":
        if examination.remedy is None:
            return None
        added[examination.remedy.name] = examination.remedy.value
    words = ["python", "-m", "pipeline.run", "--input", "PHOTOS", "--output", "FEATURES"]
    words += ["--model", options.model, "--task", options.task]
    for name in ("signature", "tags", "output_key", "pool", "model_args", "model_sha256"):
        value = added.get(name, getattr(options, name))
        words += [] if value is None else [f"--{name}", value]
    words += ["--trust_model"] if options.trust_model else []
    is_free = loaded.kind == "pixels" and None in (loaded.height, loaded.width)
    if is_free and (options.image_size is not None or options.model != builtin.NAME):
        sizes = zip((loaded.height, loaded.width), builtin.IMAGE_SIZE, strict=True)
        usual = "x".join(str(size or default) for size, default in sizes)
        words += ["--image_size", options.image_size or usual]
    if examination.batch_size is not None:
        words += ["--batch_size", str(examination.batch_size)]
    return shlex.join(words)


def _as_json(source: ModelSource, examination: Examination, command: str | None) -> dict[str, Any]:
    from pipeline.terminal.errors import told

    loaded = examination.loaded
    called = None
    if loaded is not None:
        names = ("form", "function", "kind", "dtype", "batch_size", "height", "width")
        called = {name: getattr(loaded, name) for name in names}
    return {
        "model": source.name,
        "task": source.task,
        "conformant": examination.is_conformant,
        "called": called,
        "vector_width": examination.width,
        "description": {
            **dataclasses.asdict(examination.description),
            "fine_tunable": examination.description.fine_tunable,
        },
        "checks": [
            {"name": check.name, "status": check.status, "seen": told(check.seen)}
            for check in examination.checks
        ],
        "command": command,
    }


def _as_text(source: ModelSource, examination: Examination, command: str | None) -> str:
    from pipeline.terminal.errors import told

    names = max(len(check.name) for check in examination.checks)
    lines = [f"{name:14} {value}" for name, value in _facts(source, examination)]
    lines.append("")
    lines += [f"{c.status:14}  {c.name:{names}}  {told(c.seen)}" for c in examination.checks]
    failed = [check.name for check in examination.checks if check.status == "fail"]
    warned = [check.name for check in examination.checks if check.status == "warn"]
    verdict = f"no, see {', '.join(failed)}" if failed else "yes"
    doubts = f"; doubtful: {', '.join(warned)}" if warned else ""
    lines += ["", f"Follows TensorFlow Hub's image API: {verdict}{doubts}", ""]
    lines += [command] if command else ["pipeline.run cannot use it, see above."]
    return "\n".join(lines)


def _facts(source: ModelSource, examination: Examination) -> list[tuple[str, str]]:
    what, loaded = examination.description, examination.loaded
    facts = [("model", source.name)]
    if loaded is not None:
        sizes = [loaded.batch_size, loaded.height, loaded.width]
        kind = {"pixels": "pixels", "encoded": "encoded images", "example": "tf.Examples"}
        takes = f"{kind[loaded.kind]}, {loaded.dtype}"
        for name, size in zip(("batch", "height", "width"), sizes, strict=True):
            if loaded.kind == "pixels" or name == "batch":
                takes += f", {name} {size or 'any'}"
        facts += [("form", loaded.form), ("called", loaded.function), ("input", takes)]
        vectors = f"vectors of {examination.width}" if examination.width else "no vectors"
        facts.append(("output", vectors if loaded.kind == "pixels" else "not tried"))
    for function in what.functions:
        inputs, outputs = (", ".join(map(str, t)) for t in (function.inputs, function.outputs))
        facts.append(("function", f"{function.name}({inputs}) -> {outputs}"))
    dtypes = f" {', '.join(what.dtypes)}" if what.dtypes else ""
    facts.append(("parameters", f"{what.parameters:,}{dtypes}, {_size(what.parameter_bytes)}"))
    facts.append(("on disk", _size(what.disk_bytes)))
    ops = sorted(what.ops.items(), key=lambda op: -op[1])[:_MOST_FREQUENT_OPS]
    listed = ", ".join(f"{name} {count}" for name, count in ops)
    facts.append(("ops", f"{sum(what.ops.values()):,}: {listed}{_and_more(len(what.ops))}"))
    facts.append(("forbidden ops", ", ".join(what.forbidden) or "none"))
    facts.append(("fine-tunable", _fine_tunable(examination)))
    facts.append(("arguments", ", ".join(what.hyper_parameters) or "no hyper-parameters"))
    losses = what.regularization_losses
    facts.append(("regularisation", "not listed" if losses is None else f"{losses} losses"))
    return facts


def _fine_tunable(examination: Examination) -> str:
    what = examination.description
    if not what.fine_tunable:
        lacks = "lists no trainable variables" if what.is_callable else "not a callable object"
        return f"no: {lacks}"
    training = "takes `training`" if what.takes_training else "the same in training: no `training`"
    return f"yes: {what.trainable_variables} trainable variables, {training}"


def _and_more(kinds: int) -> str:
    more = kinds - _MOST_FREQUENT_OPS
    return f", and {more} more" if more > 0 else ""


def _size(count: int) -> str:
    """A number of bytes for people.

    >>> _size(13_600_000)
    '13.6 MB'
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


if __name__ == "__main__":
    sys.exit(main())
