"""Which image is of which class: from a column of the features, their folders or a CSV file."""

from __future__ import annotations

import collections
import csv
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.errors import Parameter, UserError, one_line
from transforms.models.described import refuse_labels

MOST_CSV_BYTES = 2**31
_CSV_COLUMNS = ("id", "label")


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """The classes of some images of a dataset.

    Attributes:
      rows: int64 [n], the positions of the images that have a label.
      targets: int64 [n], or bool [n, C] where an image may be of several classes.
      classes: names, sorted.
      unlabelled: how many images have none.
      strangers: how many names of a CSV file are of no image.
    """

    rows: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]
    unlabelled: int
    strangers: int = 0


def labels_of_column(column: pa.ChunkedArray, name: str) -> Labels:
    """Labels from a column of the features.

    Args:
      column: text or whole numbers; lists of them where an image may be of several classes; null
        where it has no label.
      name: of the column, for messages.

    Raises:
      UserError: it holds something else.
    """
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    of = kind.value_type if is_list else kind
    if not _is_label(of):
        raise UserError(
            f"holds {kind}, not labels: text or whole numbers, or lists of them",
            subject=Parameter("label_column", name),
        )
    values = column.to_pylist()
    return labels_of_lists(values) if is_list else labels_of_values(values)


def groups_of_column(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Images with the same value are one group; one without a value is a group of its own.

    Args:
      column: text or whole numbers.
      name: of the column, for messages.

    Returns:
      int64 [n], numbers of groups.

    Raises:
      UserError: it holds something else.
    """
    kind = column.type
    if not (
        pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_large_string(kind)
    ):
        raise UserError(
            f"holds {kind}, not groups: text or whole numbers",
            subject=Parameter("group_column", name),
        )
    codes = column.combine_chunks().dictionary_encode().indices
    groups = np.array(codes.fill_null(-1), np.int64)
    alone = np.flatnonzero(groups < 0)
    groups[alone] = groups.max(initial=-1) + 1 + np.arange(len(alone))
    return groups


def labels_of_folders(uris: Iterable[str], directory: str) -> Labels:
    """Labels from the names of the folders that lie directly in a directory of images.

    An image that lies in no folder has none.

    Args:
      uris: absolute paths or `scheme://…` of images.
      directory: that they were found in, in the same form.

    Raises:
      UserError: a folder has a name that is none for a class.
    """
    root = directory.rstrip("/") + "/"
    values: list[str | None] = []
    for uri in uris:
        folder, slash, _ = uri.removeprefix(root).partition("/")
        values.append(folder if uri.startswith(root) and slash else None)
    return labels_of_values(values)


def labels_of_csv(path: str, ids: Sequence[str], is_multi_label: bool) -> Labels:
    """Labels from a CSV file with the columns `id` and `label`, in any order among others.

    An image is meant by its id, or by the end of its id behind a `/`, where that is of one image
    only: `roses/1.jpg` for `/photos/roses/1.jpg`.

    Args:
      path: a local file in UTF-8.
      ids: of the images.
      is_multi_label: whether a line each gives an image several labels.

    Raises:
      UserError: it cannot be read, lacks a column, names no image or one image in two ways.
    """
    subject = Parameter("labels_csv", path)
    by_id = _read_csv(path, subject, is_multi_label)
    matched = _matched(by_id, ids, subject)
    values = [matched.get(row) for row in range(len(ids))]
    if is_multi_label:
        labels = labels_of_lists(values)
    else:
        labels = labels_of_values([None if value is None else value[0] for value in values])
    return dataclasses.replace(labels, strangers=len(by_id) - len(matched))


def labels_of_values(values: Sequence[Any]) -> Labels:
    """One label an image; None where it has none.

    >>> labels = labels_of_values(["rose", None, "daisy"])
    >>> labels.rows.tolist(), labels.targets.tolist(), labels.classes, labels.unlabelled
    ([0, 2], [1, 0], ('daisy', 'rose'), 1)
    """
    rows = [row for row, value in enumerate(values) if value is not None and value != ""]
    classes = _in_order({values[row] for row in rows})
    _refuse_names(classes)
    place = {label: at for at, label in enumerate(classes)}
    targets = np.array([place[values[row]] for row in rows], np.int64)
    return Labels(_positions(rows), targets, _names(classes), len(values) - len(rows))


def labels_of_lists(values: Sequence[Sequence[Any] | None]) -> Labels:
    """Any number of labels an image; None where it is not known which.

    >>> labels_of_lists([["red", "round"], [], None, ["round"]]).targets.tolist()
    [[True, True], [False, False], [False, True]]
    """
    rows = [row for row, value in enumerate(values) if value is not None]
    of_rows = [[label for label in values[row] or () if label not in (None, "")] for row in rows]
    classes = _in_order({label for labels in of_rows for label in labels})
    _refuse_names(classes)
    place = {label: at for at, label in enumerate(classes)}
    targets = np.zeros((len(rows), len(classes)), bool)
    for at, labels in enumerate(of_rows):
        targets[at, [place[label] for label in labels]] = True
    return Labels(_positions(rows), targets, _names(classes), len(values) - len(rows))


def _is_label(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)


def _in_order(labels: set[Any]) -> list[Any]:
    """Numbers by size, text by its characters."""
    return sorted(labels)


def _refuse_names(classes: Sequence[Any]) -> None:
    """What can be no line of labels.txt."""
    for label in map(str, classes):
        try:
            refuse_labels((label,))
        except ValueError as error:
            raise UserError(
                f"the class {label!r} has a name that cannot be written: {error}"
            ) from error


def _names(classes: Sequence[Any]) -> tuple[str, ...]:
    return tuple(map(str, classes))


def _positions(rows: list[int]) -> np.ndarray:
    return np.array(rows, np.int64)


def _read_csv(path: str, subject: Parameter, is_multi_label: bool) -> dict[str, list[str]]:
    """The labels by id."""
    by_id: dict[str, list[str]] = {}
    try:
        size = os.path.getsize(path)
        if size > MOST_CSV_BYTES:
            raise UserError(f"has {size:,} bytes, over {MOST_CSV_BYTES:,}", subject=subject)
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            there = reader.fieldnames or []
            missing = [name for name in _CSV_COLUMNS if name not in there]
            if missing:
                raise UserError(
                    f"has no column {missing[0]}; its first line has {', '.join(there) or 'none'}, "
                    "and must name the columns id and label",
                    subject=subject,
                )
            for line in reader:
                name, label = line["id"], (line["label"] or "").strip()
                if not name or not label:
                    continue
                labels = by_id.setdefault(name, [])
                if labels and label not in labels and not is_multi_label:
                    raise UserError(
                        f"line {reader.line_num}: {name} is {labels[0]} and {label}; where an "
                        "image may be of several classes, add ",
                        Parameter("multi_label", True),
                        subject=subject,
                    )
                labels.append(label)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot be read: {one_line(error)}", subject=subject) from error
    if not by_id:
        raise UserError("names no image", subject=subject)
    return by_id


def _matched(
    by_id: Mapping[str, list[str]], ids: Sequence[str], subject: Parameter
) -> dict[int, list[str]]:
    """The labels by the position of the image."""
    rows = {name: row for row, name in enumerate(ids)}
    matched = {rows[name]: labels for name, labels in by_id.items() if name in rows}
    others = by_id.keys() - rows.keys()
    for row, end in _matched_by_ends(others, ids, subject).items():
        if row in matched:
            raise UserError(f"{end} is {ids[row]}, which another line names, too", subject=subject)
        matched[row] = by_id[end]
    if not matched:
        raise UserError(
            f"matches no image: it names {next(iter(by_id))!r}, the images are such as {ids[0]!r}",
            subject=subject,
        )
    return matched


def _matched_by_ends(
    names: Iterable[str], ids: Sequence[str], subject: Parameter
) -> dict[int, str]:
    """The ends of ids that are names, by the position of the image."""
    depths = collections.defaultdict(set)
    for name in names:
        depths[name.count("/")].add(name)
    places: dict[str, int] = {}
    found: dict[int, str] = {}
    for row, of_image in enumerate(ids if depths else ()):
        words = of_image.split("/")
        for depth, wanted in depths.items():
            end = "/".join(words[-1 - depth :])
            if len(words) <= depth + 1 or end not in wanted:
                continue
            if end in places:
                raise UserError(
                    f"{end} may be {ids[places[end]]} or {of_image}; write more of the path",
                    subject=subject,
                )
            if row in found:
                raise UserError(
                    f"{end} and {found[row]} are the same image, {of_image}", subject=subject
                )
            places[end], found[row] = row, end
    return found
