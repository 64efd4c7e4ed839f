"""The numbers are scikit-learn's, and `metrics.json` is JSON whatever the classes look like."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn import metrics as theirs

from consumers.report.calibration import temperature
from consumers.report.evaluation import evaluate
from consumers.report.metrics import Metrics, Share

IMAGES, CLASSES = 400, 7
WANTED = 0.5
NAMES = tuple(f"class {position}" for position in range(CLASSES))


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 3, (IMAGES, CLASSES)).astype(np.float32)


@pytest.fixture(scope="module")
def targets(logits) -> np.ndarray:
    """What the logits say with noise; the last class is never true."""
    noise = np.random.default_rng(2).normal(0, 3, (IMAGES, CLASSES - 1))
    return (logits[:, :-1] + noise).argmax(1)


@pytest.fixture(scope="module")
def several(logits) -> np.ndarray:
    """Several classes an image; the last class is never true."""
    noise = np.random.default_rng(3).normal(0, 2, logits.shape)
    return (logits + noise > 1) & (np.arange(CLASSES) < CLASSES - 1)


def or_none(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else pytest.approx(value) for value in values]


def as_read(metrics: Metrics) -> dict:
    return json.loads(json.dumps(metrics.as_json(), allow_nan=False))


def test_one_class_an_image(logits, targets):
    found = as_read(evaluate(logits, targets, NAMES))
    answers, shares = logits.argmax(1), softmax(logits.astype(np.float64), axis=1)
    assert found["correct"] == theirs.accuracy_score(targets, answers, normalize=False)
    assert (found["images"], found["accuracy"]) == (IMAGES, found["correct"] / IMAGES)
    labels = list(range(CLASSES))
    precision, recall, f1, support = theirs.precision_recall_fscore_support(
        targets, answers, labels=labels, zero_division=np.nan
    )
    assert [each["class"] for each in found["classes"]] == list(NAMES)
    assert [each["precision"] for each in found["classes"]] == or_none(precision)
    assert [each["recall"] for each in found["classes"]] == or_none(recall)
    assert [each["f1"] for each in found["classes"]] == or_none(f1)
    assert [each["images"] for each in found["classes"]] == support.tolist()
    assert found["macro_f1"] == pytest.approx(np.nanmean(f1))
    assert found["log_loss"] == pytest.approx(theirs.log_loss(targets, shares, labels=labels))
    top = theirs.top_k_accuracy_score(targets, logits, k=5, labels=labels)
    assert found["top_5_accuracy"] == pytest.approx(top)
    matrix = theirs.confusion_matrix(targets, answers, labels=labels)
    assert found["confusion_matrix"] == matrix.tolist()
    np.fill_diagonal(matrix, 0)
    most = found["most_confused"]
    assert most[0]["images"] == matrix.max()
    assert sum(pair["images"] for pair in most) == matrix.sum()
    assert (
        matrix[NAMES.index(most[3]["label"]), NAMES.index(most[3]["taken_for"])]
        == (most[3]["images"])
    )


def test_several_classes_an_image(logits, several):
    found = as_read(evaluate(logits, several, NAMES))
    answers = logits > 0
    assert found["accuracy"] == pytest.approx(theirs.accuracy_score(several, answers))
    assert found["hamming_loss"] == pytest.approx(theirs.hamming_loss(several, answers))
    f1 = theirs.f1_score(several, answers, average=None, zero_division=np.nan)
    assert [each["f1"] for each in found["classes"]] == or_none(f1)
    assert found["macro_f1"] == pytest.approx(np.nanmean(f1))
    assert found["micro_f1"] == pytest.approx(theirs.f1_score(several, answers, average="micro"))
    area = theirs.average_precision_score(several[:, :-1], logits[:, :-1], average=None)
    assert [each["average_precision"] for each in found["classes"]] == [*or_none(area), None]
    assert found["mean_average_precision"] == pytest.approx(area.mean())
    micro = theirs.average_precision_score(several, logits, average="micro")
    assert found["micro_average_precision"] == pytest.approx(micro)
    shares = expit(logits.astype(np.float64))
    loss = theirs.log_loss(several.ravel(), shares.ravel())
    assert found["log_loss"] == pytest.approx(loss)
    two_by_two = theirs.multilabel_confusion_matrix(several, answers)
    assert [
        [each[key] for each in found["classes"]]
        for key in ("true_negatives", "false_positives", "false_negatives", "correct")
    ] == two_by_two.reshape(CLASSES, 4).T.tolist()
    assert "confusion_matrix" not in found


def test_the_calibration_error_is_that_of_the_definition(logits, targets):
    shares = softmax(logits.astype(np.float64), axis=1)
    confidence, is_right = shares.max(1), shares.argmax(1) == targets
    expected = 0.0
    for low in np.arange(15) / 15:
        within = (confidence > low) & (confidence <= low + 1 / 15)
        if within.any():
            gap = abs(is_right[within].mean() - confidence[within].mean())
            expected += within.mean() * gap
    found = evaluate(logits, targets, NAMES).as_json()
    assert found["expected_calibration_error"] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["targets", "several"])
def test_a_temperature_changes_probabilities_and_no_answer(logits, kind, request):
    truth = request.getfixturevalue(kind)
    found = temperature(logits, truth)
    raw = as_read(evaluate(logits, truth, NAMES))
    scaled = as_read(evaluate(logits, truth, NAMES, temperature=found))
    for key in ("log_loss", "expected_calibration_error"):
        assert scaled[f"{key}_before_temperature_scaling"] == raw[key]
    assert scaled["log_loss"] < raw["log_loss"]
    assert scaled["temperature"] == found
    assert [scaled[key] for key in ("correct", "macro_f1", "classes")] == [
        raw[key] for key in ("correct", "macro_f1", "classes")
    ]


def test_the_threshold_keeps_the_wished_precision_and_answers_most(logits, targets):
    abstain = evaluate(logits, targets, NAMES, precision_wanted=WANTED).as_json()["abstain"]
    confidence = softmax(logits.astype(np.float64), axis=1).max(1)
    is_right = logits.argmax(1) == targets
    answered = confidence >= abstain["threshold"]
    assert is_right[answered].mean() >= WANTED
    assert (answered.sum(), is_right[answered].sum()) == (
        abstain["images_answered"],
        abstain["correct_of_these"],
    )
    assert abstain["coverage"] == answered.mean()
    for lower in confidence[~answered]:
        assert is_right[confidence >= lower].mean() < WANTED


def test_images_of_one_confidence_are_answered_together_or_not_at_all():
    logits = np.array([[2, 0], [2, 0], [0, 2], [0, 1]], np.float32)
    targets = np.array([0, 1, 1, 1])
    found = evaluate(logits, targets, ("a", "b"), precision_wanted=1.0)
    assert found.abstention.threshold is None
    json_form = as_read(found)["abstain"]
    assert (json_form["threshold"], json_form["images_answered"], json_form["coverage"]) == (
        None,
        0,
        0,
    )
    all_right = evaluate(logits[[0, 2]], targets[[0, 2]], ("a", "b"))
    assert (all_right.abstention.threshold, all_right.abstention.coverage) == (0, 1)


def test_what_does_not_exist_is_null_and_not_nan():
    logits = np.array([[1, 0], [1, 0]], np.float32)
    found = as_read(evaluate(logits, np.array([0, 0]), ("a", "never")))
    never = found["classes"][1]
    assert (never["precision"], never["recall"], never["f1"]) == (None, None, None)
    assert found["top_5_accuracy"] is None
    none = np.zeros((2, 2), bool)
    found = as_read(evaluate(-logits - 1, none, ("a", "b")))
    assert (found["micro_f1"], found["macro_f1"], found["mean_average_precision"]) == (None,) * 3
    assert found["accuracy"] == 1


def test_equal_logits_are_ranked_by_position():
    logits = np.zeros((6, 6), np.float32)
    found = evaluate(logits, np.arange(6), tuple("abcdef"))
    assert (found.accuracy, found.top_5) == (Share(1, 6), Share(5, 6))


def test_many_classes_have_pairs_and_no_matrix():
    count, images = 1001, 3000
    random = np.random.default_rng(0)
    targets = random.integers(0, count, images)
    logits = np.zeros((images, count), np.float32)
    logits[np.arange(images), (targets + (targets == 7)) % count] = 5
    found = as_read(evaluate(logits, targets, tuple(map(str, range(count)))))
    assert found["confusion_matrix"] is None
    pair = {"label": "7", "taken_for": "8", "images": int((targets == 7).sum())}
    assert found["most_confused"] == [pair]


@pytest.mark.parametrize("part", [0, 1, 50, 99, 100])
def test_the_interval_is_wilsons(part):
    z, n, p = 1.959963984540054, 100, part / 100
    middle, half = p + z * z / 2 / n, z * np.sqrt(p * (1 - p) / n + (z / 2 / n) ** 2)
    expected = (np.array([middle - half, middle + half])) / (1 + z * z / n)
    assert Share(part, n).interval == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("logits", "targets", "told"),
    [
        (np.zeros((2, 3)), np.zeros(2, np.int64), "is needed for the classes"),
        (np.zeros((2, 2)), np.zeros(3, np.int64), "targets of shape"),
        (np.zeros((2, 2)), np.array([0, 2]), "position of no class"),
        (np.zeros((0, 2)), np.zeros(0, np.int64), "no images"),
        (np.full((1, 2), np.nan), np.zeros(1, np.int64), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(logits, targets, told):
    with pytest.raises(ValueError, match=told):
        evaluate(logits, targets, ("a", "b"))
