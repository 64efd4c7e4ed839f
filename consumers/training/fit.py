"""From labelled vectors to a head: which solver, and how much of it, is chosen here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from consumers.head import Head
from consumers.labelled import Labelled
from consumers.training.checks import refuse_untrainable
from consumers.training.cross_validation import units_count
from consumers.training.logistic import STRENGTHS, ClassWeight, fit_logistic
from consumers.training.mlp import Descent, fit_mlp
from transforms.errors import Parameter, UserError

# Numbers in vectors by classes: what a pass over the images costs. Above, fewer folds.
_MUCH = 4e9
_FOLDS_OF_MUCH = 3
_LITTLE = 5e8


@dataclasses.dataclass(frozen=True)
class HeadOptions:
    """What kind of head, and how it is trained.

    Attributes:
      kind: "logistic" is logistic regression; "mlp" a network by gradient descent.
      class_weight: "balanced" lets every class count the same.
      folds: of cross-validation, 2 or more; of much data 3 at most are taken, and no more than
        there are groups.
      strengths: of l2 among which cross-validation chooses; None: `STRENGTHS`.
      l1, l2: of the kernels' sums of |w| and w², added to the mean log loss of standardised
        vectors; l2 of None is chosen by cross-validation ("mlp": 0).
      seed: of folds, first weights, dropout and order.
      epochs, batch_size, learning_rate: of "mlp", and of no meaning to "logistic".
      momentum: of "mlp": stochastic gradient descent with it; None: Adam.
      dropout_rate: of "mlp": share of the last layer's inputs that is dropped in training.
      label_smoothing: of "mlp": share of each target that is spread over all classes.
      hidden_units: of "mlp"; 0 is no hidden layer.

    Raises:
      UserError: one of them is out of its range.
    """

    kind: Literal["logistic", "mlp"] = "logistic"
    class_weight: ClassWeight = "none"
    folds: int = 5
    strengths: tuple[float, ...] | None = None
    l1: float = 0.0
    l2: float | None = None
    seed: int = 0
    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 0.001
    momentum: float | None = None
    dropout_rate: float = 0.2
    label_smoothing: float = 0.0
    hidden_units: int = 256

    def __post_init__(self) -> None:
        self._refuse_unless(self.folds >= 2, "folds", "a whole number from 2 on")
        for strength in self.strengths or ():
            if not 0 <= strength < np.inf:
                raise UserError(
                    "a number from 0 on is needed", subject=Parameter("strengths", strength)
                )
        for name in ("l1", "l2", "momentum"):
            value = getattr(self, name)
            self._refuse_unless(value is None or 0 <= value < np.inf, name, "a number from 0 on")
        momentum = 0 if self.momentum is None else self.momentum
        self._refuse_unless(momentum < 1, "momentum", "a number below 1")
        is_rate = 0 < self.learning_rate < np.inf
        self._refuse_unless(is_rate, "learning_rate", "a number above 0")
        for name in ("dropout_rate", "label_smoothing"):
            is_share = 0 <= getattr(self, name) < 1
            self._refuse_unless(is_share, name, "a share from 0 on and below 1")
        for name in ("epochs", "batch_size"):
            self._refuse_unless(getattr(self, name) >= 1, name, "a whole number from 1 on")
        for name in ("seed", "hidden_units"):
            self._refuse_unless(getattr(self, name) >= 0, name, "a whole number from 0 on")

    def _refuse_unless(self, holds: bool, name: str, wanted: str) -> None:
        if not holds:
            raise UserError(f"{wanted} is needed", subject=Parameter(name, getattr(self, name)))


@dataclasses.dataclass(frozen=True, eq=False)
class FittedHead:
    """A head, and what is to be told of it.

    Attributes:
      head: for vectors as they are.
      method: in words.
      description: what was chosen and by what figures; plain values, fit for JSON.
      out_of_fold: float32 [n, C], for each image the probabilities by a head that has not seen it,
        nor its group; NaN where that head has not seen the image's class, either, as with classes
        of one group, or too few groups.
    """

    head: Head
    method: str
    description: dict[str, Any]
    out_of_fold: np.ndarray


def fit_head(
    training: Labelled, options: HeadOptions, progress: Callable[[str], None]
) -> FittedHead:
    """Trains a head; the same images and options give the same head on the same machine.

    Args:
      training: float32 vectors [n, N], perhaps a memory map; read in blocks, never copied whole.
        Near duplicates belong into its groups: `near_duplicate_groups`, `joined_groups`.
      options: see there.
      progress: is told what was found, a line at a time.

    Raises:
      UserError: what `refuse_untrainable` refuses, before any work; a learning rate with which a
        network diverges.
    """
    refuse_untrainable(training)
    count, width = training.vectors.shape
    fold_count = min(options.folds, units_count(training))
    choosing = fold_count
    if count * width * len(training.classes) > _MUCH:
        fold_count, choosing = min(fold_count, _FOLDS_OF_MUCH), 1
    if options.kind == "mlp":
        return _mlp(training, options, fold_count, progress)
    strengths = options.strengths or STRENGTHS
    if options.l2 is not None:
        strengths = (options.l2,)
    from threadpoolctl import threadpool_limits

    # On a busy machine the threads of BLAS wait for each other longer than a small product takes:
    # a fit of 360 images took 30 s with two of them, and 1.4 s with one.
    with threadpool_limits(1 if count * width * len(training.classes) < _LITTLE else None):
        fitted = fit_logistic(
            training,
            strengths,
            fold_count,
            choosing,
            options.class_weight,
            options.seed,
            options.l1,
            progress,
        )
    description = {
        "kind": "logistic",
        "class_weight": options.class_weight,
        "seed": options.seed,
        "folds": fold_count,
        "folds_that_chose": choosing,
        "l1": options.l1,
        "l2": fitted.strength,
        "l2_chosen_by": _chosen_by(options, fitted.scores),
        "log_loss_by_l2": {f"{strength:g}": score for strength, score in fitted.scores.items()},
    }
    kind = "a sigmoid each class" if training.is_multi_label else "softmax"
    return FittedHead(
        fitted.head,
        f"logistic regression ({kind}) on standardised vectors, L-BFGS",
        description,
        fitted.out_of_fold,
    )


def _chosen_by(options: HeadOptions, scores: dict[float, float]) -> str:
    if options.l2 is not None:
        return "the options"
    if scores:
        return "cross-validation: log loss at the best temperature"
    return "nothing: too few groups to try any, so the middle one was taken"


def _mlp(
    training: Labelled, options: HeadOptions, fold_count: int, progress: Callable[[str], None]
) -> FittedHead:
    names = [field.name for field in dataclasses.fields(Descent)]
    chosen = {name: getattr(options, name) for name in names} | {"l2": options.l2 or 0.0}
    fitted = fit_mlp(training, Descent(**chosen), fold_count, progress)
    description = {
        "kind": "mlp",
        **chosen,
        "folds": fold_count,
        "best_epoch": fitted.best_epoch,
        "validation_loss": fitted.validation_loss,
    }
    method = f"a network with {options.hidden_units} hidden units on standardised vectors"
    if not options.hidden_units:
        method = "a linear layer on standardised vectors, by gradient descent"
    return FittedHead(fitted.head, method, description, fitted.out_of_fold)
