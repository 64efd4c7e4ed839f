"""Which labels are probably wrong: those that a classifier trained on the other images contradicts.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
2021. Of the two rankings there, self-confidence finds more than the normalised margin: with 3 % of
the labels of scikit-learn's digits flipped and logistic regression on the pixels, 93 % of the first
54 images are flipped ones, against 90 % (mean of five seeds and two strengths).
"""

from __future__ import annotations

import csv
import io

import numpy as np
import pyarrow as pa

from consumers.report.names import as_csv_cell
from consumers.report.probabilities import refuse_misfit, row_blocks

SUSPECTS_SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("suggested", pa.string(), nullable=False),
        pa.field("probability_of_label", pa.float32(), nullable=False),
        pa.field("probability_of_suggested", pa.float32(), nullable=False),
    ]
)


def label_suspects(
    ids: np.ndarray, targets: np.ndarray, classes: tuple[str, ...], out_of_fold: np.ndarray
) -> pa.Table:
    """The images for which another class is more probable than their label, the worst first.

    They are ranked by the probability of their label. Where an image may be of several classes each
    row is of one of them: of one that it has and should lose, `label` is its name and `suggested`
    is empty; of one that it lacks and should get, the other way round.

    Args:
      ids: object [n] of str.
      targets: int64 [n], positions in `classes`; or bool [n, C].
      classes: C names.
      out_of_fold: float32 [n, C], probabilities by a classifier that was trained without the image.
        Images that have none, which is to say NaN, are passed over.

    Returns:
      a table with `SUSPECTS_SCHEMA`; ranks begin at 1.

    Raises:
      ValueError: shapes that do not fit, or no images.
    """
    refuse_misfit(out_of_fold, targets, classes)
    find = _find_labels if targets.ndim == 2 else _find_images
    blocks = [find(targets[rows], out_of_fold[rows]) for rows in row_blocks(out_of_fold.shape)]
    starts = [rows.start for rows in row_blocks(out_of_fold.shape)]
    images = np.concatenate([block[0] + start for block, start in zip(blocks, starts, strict=True)])
    label, suggested, of_label, of_suggested = (
        np.concatenate([block[column] for block in blocks]) for column in range(1, 5)
    )
    order = np.lexsort((-of_suggested, of_label))
    names = np.array([*classes, ""], dtype=object)  # the position -1 is no class
    columns = [
        np.arange(1, len(order) + 1),
        ids[images[order]],
        names[label[order]],
        names[suggested[order]],
        of_label[order],
        of_suggested[order],
    ]
    arrays = [
        pa.array(column, field.type) for column, field in zip(columns, SUSPECTS_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=SUSPECTS_SCHEMA)


def suspects_csv(suspects: pa.Table) -> str:
    """The table as CSV, one line a row whatever is in the names, for a spreadsheet or a program.

    Texts are as `consumers.report.names.as_csv_cell` has them: an apostrophe stands in front of
    what a spreadsheet would take for a formula (and of what begins with an apostrophe), and control
    characters are written as escapes. Probabilities have six decimals.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SUSPECTS_SCHEMA.names)
    for row in suspects.to_pylist():
        writer.writerow([_cell(row[name]) for name in SUSPECTS_SCHEMA.names])
    return text.getvalue()


Found = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Positions of images, labels and suggested classes, and the probabilities of these two."""


def _find_images(targets: np.ndarray, probabilities: np.ndarray) -> Found:
    of_label = np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]
    suggested = probabilities.argmax(1)  # NaN where there is one
    of_suggested = probabilities.max(1)
    images = np.flatnonzero(of_suggested > of_label)
    return images, targets[images], suggested[images], of_label[images], of_suggested[images]


def _find_labels(targets: np.ndarray, probabilities: np.ndarray) -> Found:
    of_given = np.where(targets, probabilities, 1 - probabilities)
    images, labels = np.nonzero(of_given < 0.5)
    is_given, of_label = targets[images, labels], of_given[images, labels]
    label, suggested = np.where(is_given, labels, -1), np.where(is_given, -1, labels)
    return images, label, suggested, of_label, 1 - of_label


def _cell(value: str | int | float) -> str | int:
    if isinstance(value, str):
        return as_csv_cell(value)
    return f"{value:.6f}" if isinstance(value, float) else value
