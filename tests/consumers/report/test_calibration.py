"""A temperature makes a classifier as sure as it is right, and keeps sane where all is right."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from consumers.report import calibration
from consumers.report.calibration import reliability, temperature
from consumers.report.probabilities import logits_of

SEED = 15


def drawn(images: int, classes: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, `scale` times too large, and targets drawn from what they should have been."""
    random = np.random.default_rng(SEED)
    logits = random.normal(0, 2, (images, classes))
    shares = softmax(logits, axis=1).cumsum(1)
    targets = (random.random((images, 1)) > shares[:, :-1]).sum(1)
    return (logits * scale).astype(np.float32), targets


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_the_temperature_undoes_a_wrong_scale(scale):
    logits, targets = drawn(5000, 6, scale)
    found = temperature(logits, targets)
    assert found == pytest.approx(scale, rel=0.1)
    losses = [log_loss(targets, softmax(logits / t, axis=1)) for t in (found, found * 1.1)]
    assert losses[0] < losses[1]
    confidence, is_right = softmax(logits / found, axis=1).max(1), logits.argmax(1) == targets
    assert reliability(confidence, is_right).expected_error < 0.03


def test_it_does_so_for_several_labels_an_image():
    random = np.random.default_rng(SEED)
    logits = random.normal(0, 2, (3000, 5))
    targets = random.random(logits.shape) < expit(logits)
    assert temperature((logits * 3).astype(np.float32), targets) == pytest.approx(3, rel=0.1)


def test_where_all_answers_are_right_it_stays_near_one():
    targets = np.arange(100) % 4
    certain = np.where(np.eye(4, dtype=bool)[targets], 200, -200).astype(np.float32)
    assert temperature(certain, targets) == pytest.approx(1, abs=0.01)
    assert temperature(certain, certain > 0) == pytest.approx(1, abs=0.01)
    cautious = certain / 100
    assert 0.2 < temperature(cautious, targets) < 1


def test_where_all_answers_are_wrong_it_says_nothing_with_confidence():
    targets = np.zeros(50, np.int64)
    wrong = np.tile(np.array([[-50, 50]], np.float32), (50, 1))
    assert softmax(wrong / temperature(wrong, targets), axis=1).max() < 0.75


def test_a_single_image_gives_a_temperature():
    assert 0.5 < temperature(np.array([[3.0, 1.0]], np.float32), np.array([0])) < 2


def test_many_logits_are_thinned_and_give_the_same(monkeypatch):
    logits, targets = drawn(5000, 6, 2.0)
    of_all = temperature(logits, targets)
    monkeypatch.setattr(calibration, "_ENOUGH_ENTRIES", 10_002)
    assert temperature(logits, targets) == temperature(logits[::3], targets[::3])
    assert temperature(logits, targets) == pytest.approx(of_all, rel=0.1)


def test_probabilities_back_to_logits():
    logits, targets = drawn(100, 4, 1.0)
    again = logits_of(softmax(logits, axis=1).astype(np.float32), targets)
    assert softmax(again, axis=1) == pytest.approx(softmax(logits, axis=1), rel=1e-5)
    labels = logits_of(expit(logits), logits > 0)
    assert labels == pytest.approx(logits, abs=1e-4)
    assert np.isfinite(logits_of(np.array([[0.0, 1.0]], np.float32), targets[:1])).all()
    assert np.isfinite(logits_of(np.array([[0.0, 1.0]], np.float32), logits[:1, :2] > 0)).all()


def test_bins_are_closed_on_the_right_and_empty_ones_count_nothing():
    confidence = np.array([0.0, 1 / 15, 0.07, 1.0])
    measured = reliability(confidence, np.array([False, True, True, True]))
    assert measured.counts.tolist() == [2, 1, *[0] * 12, 1]
    gaps = [abs(0.5 - 1 / 30) * 2, abs(1 - 0.07), 0]
    assert measured.expected_error == pytest.approx(sum(gaps) / 4)
    assert np.isnan(measured.accuracy[5])
