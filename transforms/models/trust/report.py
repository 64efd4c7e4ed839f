"""What of a model is not harmless, each named, and the refusal that lists it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from transforms.errors import Parameter, UserError
from transforms.models.trust.ops import Reason

_UNJUDGED = ("not known to be harmless", "unknown to this TensorFlow")


@dataclasses.dataclass(frozen=True, order=True)
class ForbiddenOp:
    """An op or class that reaches outside the model, or that may.

    Attributes:
      op: its type, as `ReadFile`; for a Keras file a class or function.
      function: the function that it is in, by its name in Python; empty for the main graph. For a
        Keras file the layer.
      reason: what it does.
    """

    op: str
    function: str
    reason: Reason

    def __str__(self) -> str:
        place = f"in function {self.function}: " if self.function else ""
        return f"{self.op} ({place}{self.reason})"


@dataclasses.dataclass(frozen=True)
class TrustReport:
    """What a model can run.

    Attributes:
      forbidden: what is not harmless, sorted, each once for each function.
      ops: how often each op type occurs in what loading (but for restoring) and calling are seen to
        run, most frequent first; a function counts once, and each trace of `__call__` is a
        function. For a Keras file the classes of the layers.
    """

    forbidden: tuple[ForbiddenOp, ...]
    ops: Mapping[str, int]


def refuse_if_untrusted(name: str, report: TrustReport) -> None:
    """Raises a UserError that names what in the model called `name` is not harmless."""
    if report.forbidden:
        listed = ", ".join(map(str, report.forbidden))
        does = "reach outside the model"
        if any(op.reason in _UNJUDGED for op in report.forbidden):
            does += ", or may do so"
        raise UserError(
            f"contains ops that {does}: {listed}; if you trust its publisher, add ",
            Parameter("trusted", True),
            subject=Parameter("model", name),
        )
