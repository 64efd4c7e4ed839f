"""What is learnt of labelled vectors: nothing leaks, and wrong labels and copies are found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from consumers.labelled import Labelled, on_disk
from consumers.learning import Recipe, learn
from consumers.report.evaluation import evaluate
from consumers.training.fit import HeadOptions

RECIPE = Recipe(HeadOptions(folds=3, strengths=(0.03, 0.003)))


@pytest.fixture(scope="module")
def digits() -> Labelled:
    """scikit-learn's digits, their pixels for vectors."""
    from sklearn.datasets import load_digits

    data = load_digits()
    ids = np.array([f"{number:04}" for number in range(len(data.target))], object)
    vectors, targets = data.data.astype(np.float32), data.target.astype(np.int64)
    return Labelled(ids, vectors, targets, tuple("0123456789"))


def test_labels_that_were_flipped_are_the_first_suspects(digits: Labelled):
    chance = np.random.default_rng(0)
    flipped = chance.choice(len(digits.ids), len(digits.ids) * 3 // 100, replace=False)
    targets = digits.targets.copy()
    targets[flipped] = (targets[flipped] + chance.integers(1, 10, len(flipped))) % 10
    learned = learn(dataclasses.replace(digits, targets=targets), RECIPE, print)
    first = learned.suspects["id"].to_pylist()[: len(flipped)]
    found = len(set(first) & set(digits.ids[flipped]))
    assert found / len(flipped) >= 0.7


def test_copies_are_never_on_both_sides(digits: Labelled):
    chance = np.random.default_rng(0)
    rows = chance.choice(len(digits.ids), len(digits.ids) // 20, replace=False)
    noise = chance.normal(0, 0.05, (len(rows), digits.vectors.shape[1])).astype(np.float32)
    with_copies = Labelled(
        np.concatenate([digits.ids, [f"copy of {name}" for name in digits.ids[rows]]]),
        np.concatenate([digits.vectors, digits.vectors[rows] + noise]),
        np.concatenate([digits.targets, digits.targets[rows]]),
        digits.classes,
    )
    learned = learn(with_copies, dataclasses.replace(RECIPE, near_duplicate=0.999), print)
    held_out = set(with_copies.ids[learned.sides.held_out])
    assert len(held_out) > 300
    assert learned.near_duplicates >= 2 * len(rows)
    for name in digits.ids[rows]:
        assert (name in held_out) == (f"copy of {name}" in held_out)


def test_where_most_vectors_are_alike_only_equal_ones_are_kept_together(digits: Labelled):
    """A model that tells few images apart says nothing about the images."""
    few = digits.take(np.arange(200))
    alike = dataclasses.replace(few, vectors=few.vectors + np.float32(1000))
    said: list[str] = []
    learned = learn(alike, RECIPE, said.append)
    assert (learned.near_duplicates, learned.near_duplicate) == (0, 1)
    assert said[0].startswith("200 of 200 images have a vector within a cosine of 0.99")


def test_metrics_are_of_the_head_that_is_kept(digits: Labelled):
    learned = learn(digits, RECIPE, print)
    held_out = digits.take(learned.sides.held_out)
    logits = learned.head.logits(held_out.vectors)
    assert learned.metrics.accuracy == evaluate(logits, held_out.targets, digits.classes).accuracy
    assert learned.metrics.accuracy.value > 0.94
    assert learned.metrics.log_loss <= learned.metrics.log_loss_before + 0.01
    assert set(learned.sides.train) | set(learned.sides.held_out) == set(range(len(digits.ids)))


def test_the_penalty_of_the_exported_head_is_the_one_that_it_was_fitted_with(digits: Labelled):
    """Standardisation and temperature are multiplied into the kernel; the penalty stays small."""
    learned = learn(digits, RECIPE, print)
    deviation = digits.vectors[learned.sides.train].std(0).astype(np.float64)
    [fitted], [kept] = learned.fitted.head.layers, learned.head.layers
    standardised = fitted.kernel * np.where(deviation > 0, deviation, 1)[:, None]
    wanted = learned.head.l2 * np.square(standardised).sum()
    assert learned.head.l2 * np.square(kept.kernel * kept.unit).sum() == pytest.approx(
        wanted, rel=1e-3
    )
    assert wanted < 1


def test_vectors_on_disk_are_learnt_from_as_those_in_memory(digits: Labelled):
    vectors = on_disk(digits.vectors.shape)
    vectors[:] = digits.vectors
    kept = dataclasses.replace(digits, vectors=vectors)
    assert isinstance(kept.take(np.array([3, 1])).vectors, np.memmap)
    assert kept.take(np.array([3, 1])).vectors.tolist() == digits.vectors[[3, 1]].tolist()
    here, there = learn(digits, RECIPE, print), learn(kept, RECIPE, print)
    assert here.metrics.accuracy == there.metrics.accuracy
    np.testing.assert_array_equal(here.head.layers[0].kernel, there.head.layers[0].kernel)
