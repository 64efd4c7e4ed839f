"""What a classifier answers to the images that were held out: what its metrics are made of."""

from __future__ import annotations

import csv
import dataclasses
import io

import numpy as np

from consumers.report.names import as_csv_cell

_COLUMNS = ("id", "label", "answer", "probability", "right")


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """The images that a classifier is measured with, and its answers.

    Attributes:
      ids: object [n] of str.
      targets: int64 [n], positions of classes; or bool [n, C].
      probabilities: float32 [n, C].
    """

    ids: np.ndarray
    targets: np.ndarray
    probabilities: np.ndarray


def held_out_csv(held_out: HeldOut, classes: tuple[str, ...]) -> str:
    """A line for each image, for a spreadsheet or a program.

    Where an image may be of several classes, a line for each of its classes and of those that are
    answered: `label` is empty where it is not of the class, `answer` where it is not said to be.
    Texts are as `consumers.report.names.as_csv_cell` has them.

    Args:
      held_out: the images.
      classes: C names.

    >>> ids, targets = np.array(["a.png"], object), np.array([0])
    >>> answers = np.array([[0.25, 0.75]], np.float32)
    >>> print(held_out_csv(HeldOut(ids, targets, answers), ("cat", "dog")), end="")
    id,label,answer,probability,right
    a.png,cat,dog,0.750000,0
    """
    names = [as_csv_cell(name) for name in classes]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    if held_out.targets.ndim == 1:
        answers = held_out.probabilities.argmax(1)
        for row, (target, answer) in enumerate(zip(held_out.targets, answers, strict=True)):
            score = held_out.probabilities[row, answer]
            line = (names[target], names[answer], f"{score:.6f}", int(target == answer))
            writer.writerow([as_csv_cell(held_out.ids[row]), *line])
        return text.getvalue()
    said = held_out.probabilities > 0.5
    for row, at in zip(*np.nonzero(said | held_out.targets), strict=True):
        is_of, is_said = held_out.targets[row, at], said[row, at]
        label, answer = names[at] if is_of else "", names[at] if is_said else ""
        score = f"{held_out.probabilities[row, at]:.6f}"
        line = (label, answer, score, int(is_of == is_said))
        writer.writerow([as_csv_cell(held_out.ids[row]), *line])
    return text.getvalue()
