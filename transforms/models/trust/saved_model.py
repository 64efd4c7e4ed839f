"""Finds the ops of a SavedModel that are not harmless, before anything of it is loaded."""

from __future__ import annotations

import collections
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from transforms.errors import Parameter, UserError, one_line
from transforms.models.trust import ops
from transforms.models.trust.program import Program, Step, UndecidedError
from transforms.models.trust.report import ForbiddenOp, TrustReport


def check_program(
    directory: str,
    signature: str | None = None,
    tags: Collection[str] | None = None,
    task: str = "feature_vector",
) -> TrustReport:
    """Finds the ops of a SavedModel that are not harmless; nothing of it is loaded or run.

    Looked at are all functions, whether anything is seen to call them or not, and of a TF1 model's
    main graph what is fetched and what importing it may run. A lookup table may read one of the
    model's own assets, where it is given that and nothing else; the functions that save and restore
    the variables may do so where nothing calls them.

    Args:
      directory: the SavedModel's.
      signature: the one that will be called, for `ops`; None stands for the one that would be.
      tags: of the meta graph that will be loaded; None stands for every meta graph.
      task: what the model is asked for.

    Raises:
      UserError: there is no SavedModel, it is damaged, or no meta graph has these tags.
    """
    from google.protobuf.message import DecodeError

    subject = Parameter("model", directory)
    graphs = _parsed(directory).meta_graphs
    if not graphs:
        raise UserError("saved_model.pb is damaged: it holds no graph", subject=subject)
    chosen = [g for g in graphs if tags is None or set(g.meta_info_def.tags) == set(tags)]
    if not chosen:
        have = ", ".join(str(sorted(g.meta_info_def.tags)) for g in graphs)
        raise UserError(
            f"no graph has the tags {sorted(tags or ())}; there is {have}", subject=subject
        )
    forbidden: set[ForbiddenOp] = set()
    counts: collections.Counter[str] = collections.Counter()
    for graph in chosen:
        try:
            program = Program(graph, directory, is_only_graph=len(graphs) == 1)
            forbidden.update(_forbidden(program.steps(), program.functions))
            seen = program.reached(_called(program, signature, task))
            counts.update({(step.function, step.node.name): step.node.op for step in seen}.values())
        except (IndexError, KeyError, ValueError, DecodeError) as error:  # it refers to nothing
            raise UserError("saved_model.pb is damaged", subject=subject) from error
    return TrustReport(tuple(sorted(forbidden)), dict(counts.most_common()))


def _parsed(directory: str) -> Any:
    """The protocol buffer of a SavedModel, read as TensorFlow's loader reads it.

    Raises:
      UserError: it cannot be read.
    """
    import tensorflow as tf

    try:
        return tf.__internal__.saved_model.parse_saved_model(directory)
    except (OSError, ValueError, tf.errors.OpError) as error:
        subject = Parameter("model", directory)
        raise UserError(f"cannot be read: {one_line(error)}", subject=subject) from error


def _called(program: Program, signature: str | None, task: str) -> list[str] | None:
    try:
        name = program.called(signature, task)
    except UndecidedError:
        return program.signatures
    return None if name is None else [name]


def _forbidden(steps: Iterable[Step], functions: Collection[str]) -> Iterator[ForbiddenOp]:
    for step in steps:
        reason = None if step.is_own_file else ops.reason_against(step.node.op)
        if reason == "unknown to this TensorFlow" and step.node.op in functions:
            continue  # a call, and what is called is looked at by itself
        if reason:
            # As `helper` in `__inference_helper_12`.
            name = re.fullmatch(r"__(?:inference|forward)_(.+?)_\d+", step.function)
            yield ForbiddenOp(step.node.op, name[1] if name else step.function, reason)
