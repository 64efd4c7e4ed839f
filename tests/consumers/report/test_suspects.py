"""Labels that were flipped on purpose are found, and the list of them does no harm when opened."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from consumers.report.suspects import SUSPECTS_SCHEMA, label_suspects, suspects_csv

SEED = 15


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True labels, labels of which 3 % were flipped, and out-of-fold probabilities by those."""
    pixels, truth = load_digits(return_X_y=True)
    random = np.random.default_rng(SEED)
    flipped = random.choice(len(truth), round(0.03 * len(truth)), replace=False)
    labels = truth.copy()
    labels[flipped] = (labels[flipped] + random.integers(1, 10, len(flipped))) % 10
    folds = StratifiedKFold(4, shuffle=True, random_state=SEED)
    model = LogisticRegression(max_iter=200, tol=1e-2)
    out_of_fold = cross_val_predict(model, pixels / 16, labels, cv=folds, method="predict_proba")
    return truth, labels, out_of_fold.astype(np.float32)


def test_flipped_labels_come_first(digits):
    truth, labels, out_of_fold = digits
    ids = np.array([f"{row}.png" for row in range(len(truth))], dtype=object)
    classes = tuple(f"digit {value}" for value in range(10))
    found = label_suspects(ids, labels, classes, out_of_fold)
    assert found.schema == SUSPECTS_SCHEMA
    flips = int((truth != labels).sum())
    first = found.slice(0, flips).to_pylist()
    rows = [int(row["id"].removesuffix(".png")) for row in first]
    is_flipped = truth[rows] != labels[rows]
    assert is_flipped.mean() >= 0.8, "0.7 is what was promised"
    assert [row["label"] for row in first] == [classes[labels[row]] for row in rows]
    suggestions = np.array([row["suggested"] for row in first]) == np.array(classes)[truth[rows]]
    assert suggestions[is_flipped].mean() > 0.9
    assert found["rank"].to_pylist() == list(range(1, found.num_rows + 1))
    assert found.num_rows == (out_of_fold.argmax(1) != labels).sum()


def test_pairs_of_image_and_class_where_there_may_be_several(digits):
    truth, _, out_of_fold = digits
    ids = np.arange(len(truth)).astype(str).astype(object)
    given = np.eye(10, dtype=bool)[truth]
    certain = np.flatnonzero(out_of_fold[np.arange(len(truth)), truth] > 0.99)[:4]
    given[certain[:2], truth[certain[:2]]] = False
    given[certain[2:], (truth[certain[2:]] + 1) % 10] = True
    found = label_suspects(ids, given, tuple("0123456789"), out_of_fold).to_pylist()
    pairs = {(row["id"], row["label"], row["suggested"]) for row in found[:60]}
    for row in certain[:2]:
        assert (ids[row], "", str(truth[row])) in pairs
    for row in certain[2:]:
        assert (ids[row], str((truth[row] + 1) % 10), "") in pairs
    assert all(
        row["probability_of_label"] + row["probability_of_suggested"] == pytest.approx(1)
        for row in found
    )


def test_images_without_probabilities_are_passed_over():
    out_of_fold = np.array([[0.1, 0.9], [np.nan, np.nan], [0.2, 0.8]], np.float32)
    ids = np.array(["a", "b", "c"], dtype=object)
    found = label_suspects(ids, np.array([0, 0, 1]), ("x", "y"), out_of_fold)
    assert found["id"].to_pylist() == ["a"]
    found = label_suspects(ids, np.zeros((3, 2), bool), ("x", "y"), out_of_fold)
    assert found["id"].to_pylist() == ["a", "c"]


def test_no_suspect_is_a_header_and_no_more():
    ids = np.array(["a"], dtype=object)
    found = label_suspects(ids, np.array([0]), ("x", "y"), np.array([[0.9, 0.1]], np.float32))
    assert suspects_csv(found) == (
        "rank,id,label,suggested,probability_of_label,probability_of_suggested\n"
    )


def test_many_images_are_as_few_ones():
    random = np.random.default_rng(SEED)
    out_of_fold = random.dirichlet(np.ones(500), 10_000).astype(np.float32)
    ids = np.arange(len(out_of_fold)).astype(str).astype(object)
    targets = random.integers(0, 500, len(ids))
    classes = tuple(map(str, range(500)))
    found = label_suspects(ids, targets, classes, out_of_fold)
    own = out_of_fold[np.arange(len(ids)), targets]
    assert found["id"].to_pylist()[0] == ids[own.argmin()]
    for row in found.slice(5000, 3).to_pylist():
        image = int(row["id"])
        assert row["label"] == classes[targets[image]]
        assert row["probability_of_label"] == own[image]
        assert row["suggested"] == classes[out_of_fold[image].argmax()]


ODD = [
    "=1+1",
    "+1",
    "-1.png",
    "@x",
    " =1",
    "\t=1",
    "\r\n=1",
    "＝1",
    "'x",
    'a"b,c',
    "a\nb",
    "\x1b[2J",
]


def test_a_spreadsheet_takes_no_id_for_a_formula_and_a_reader_gets_each_id_back():
    ids = np.array(ODD, dtype=object)
    out_of_fold = np.tile(np.array([[0.25, 0.75]], np.float32), (len(ids), 1))
    table = label_suspects(ids, np.zeros(len(ids), np.int64), ("=a", "b"), out_of_fold)
    text = suspects_csv(table)
    assert len(text.splitlines()) == len(ODD) + 1
    assert text.replace("\n", "").isprintable()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert all(row[key].strip()[0] not in "=+-@＝" for row in rows for key in row)
    plain = [row["id"].removeprefix("'") for row in rows]
    assert plain[:5] + plain[7:10] == ODD[:5] + ODD[7:10]
    assert plain[10:] == ["a\\u000ab", "\\u001b[2J"]
    assert rows[0] == {
        "rank": "1",
        "id": "'=1+1",
        "label": "'=a",
        "suggested": "b",
        "probability_of_label": "0.250000",
        "probability_of_suggested": "0.750000",
    }
