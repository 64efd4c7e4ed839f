"""What was found out about a model, for people and for programs."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipeline.terminal.errors import told
from pipeline.terminal.streams import shown
from pipeline.terminal.words import byte_count
from transforms.examine.examination import Examination
from transforms.models.described import ModelDescription
from transforms.models.source import ModelSource
from transforms.storage.secrets import masked

_MOST_FREQUENT_OPS = 8
_MOST_CLASSES = 10


def model_json(
    source: ModelSource, examination: Examination, command: str | None
) -> dict[str, Any]:
    """One object for programs; `command` is how to run the model, None if it cannot be."""
    loaded = examination.loaded
    called = None
    if loaded is not None:
        names = ("form", "function", "kind", "dtype", "batch_size", "height", "width")
        called = {name: getattr(loaded, name) for name in names}
    return {
        "model": masked(source.name),
        "task": source.task,
        "conformant": examination.is_conformant,
        "called": called,
        "vector_width": examination.width,
        "classifier_hint": examination.classifier_hint,
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


def model_table(source: ModelSource, examination: Examination, command: str | None) -> str:
    """The table for people."""
    names = max(len(check.name) for check in examination.checks)
    lines = [f"{name:14} {value}" for name, value in _facts(source, examination)]
    lines.append("")
    lines += [f"{c.status:14}  {c.name:{names}}  {told(c.seen)}" for c in examination.checks]
    failed = [check.name for check in examination.checks if check.status == "fail"]
    warned = [check.name for check in examination.checks if check.status == "warn"]
    verdict = f"no, see {', '.join(failed)}" if failed else "yes"
    doubts = f"; doubtful: {', '.join(warned)}" if warned else ""
    lines += ["", f"Follows TensorFlow Hub's image API: {verdict}{doubts}", ""]
    lines += [command] if command else ["run cannot use it, see above."]
    knows_classes = examination.description.own is not None
    if command and "classification" in command.split() and not knows_classes:
        lines.append("(class names: --labels FILE, one a line; scores: --activation softmax)")
    return "\n".join(map(shown, lines))


def _facts(source: ModelSource, examination: Examination) -> list[tuple[str, str]]:
    what, loaded = examination.description, examination.loaded
    facts = [("model", masked(source.name))]
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
    if examination.classifier_hint and source.task != "classification":
        facts.append(("looks like", f"a classifier: {examination.classifier_hint}"))
    if what.own is not None:
        facts += _own_facts(what.own)
    for function in what.functions:
        inputs, outputs = (", ".join(map(str, t)) for t in (function.inputs, function.outputs))
        facts.append(("function", f"{function.name}({inputs}) -> {outputs}"))
    dtypes = f" {', '.join(what.dtypes)}" if what.dtypes else ""
    facts.append(("parameters", f"{what.parameters:,}{dtypes}, {byte_count(what.parameter_bytes)}"))
    facts.append(("on disk", byte_count(what.disk_bytes)))
    ops = sorted(what.ops.items(), key=lambda op: -op[1])[:_MOST_FREQUENT_OPS]
    listed = ", ".join(f"{name} {count}" for name, count in ops)
    facts.append(("ops", f"{sum(what.ops.values()):,}: {listed}{_and_more(len(what.ops))}"))
    facts.append(("forbidden ops", ", ".join(what.forbidden) or "none"))
    facts.append(("fine-tunable", _fine_tunable(examination)))
    facts.append(("arguments", ", ".join(what.hyper_parameters) or "no hyper-parameters"))
    losses = what.regularization_losses
    facts.append(("regularisation", "not listed" if losses is None else f"{losses} losses"))
    return facts


def _own_facts(own: ModelDescription) -> list[tuple[str, str]]:
    """What the model says of itself."""
    facts = [("image size", "{}x{}".format(*own.image_size))]
    if own.labels:
        listed = ", ".join(own.labels[:_MOST_CLASSES])
        more = len(own.labels) - _MOST_CLASSES
        listed += f", and {more:,} more" if more > 0 else ""
        kind = "several an image" if own.is_multi_label else "one an image"
        facts.append(("classes", f"{len(own.labels):,}, {kind} ({own.activation}): {listed}"))
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
