"""Near duplicates are found as a comparison of all with all finds them, and stay on one side."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from consumers.training import duplicates
from consumers.training.duplicates import images_not_alone, joined_groups, near_duplicate_groups
from consumers.training.split import split_images
from tests.consumers.training.clusters import clusters
from transforms.errors import UserError


def by_all_pairs(vectors: np.ndarray, threshold: float) -> np.ndarray:
    """The first image of each image's group, by following all pairs until nothing changes."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = unit @ unit.T >= threshold
    first = np.arange(len(vectors))
    while True:
        reached = np.array([first[row].min() for row in near])
        if (reached == first).all():
            return first
        first = reached


def same_partition(groups: np.ndarray, others: np.ndarray) -> bool:
    pairs = np.unique(np.stack([groups, others]), axis=1).shape[1]
    return pairs == len(np.unique(groups)) == len(np.unique(others))


@pytest.mark.parametrize("threshold", [0.9, 0.99])
def test_all_that_all_pairs_finds_is_found(threshold):
    # Over two blocks, in clusters so narrow that many pairs are close to the threshold.
    random = np.random.default_rng(1)
    centres = np.maximum(random.standard_normal((150, 96)), 0)
    noise = random.uniform(0.02, 0.4, (2500, 1)) * random.standard_normal((2500, 96))
    vectors = (centres[random.integers(0, 150, 2500)] + noise).astype(np.float32)
    groups = near_duplicate_groups(vectors, threshold)
    assert same_partition(groups, by_all_pairs(vectors, threshold))
    assert 0 < images_not_alone(groups) < 2500


def test_no_duplicate_stands_on_both_sides_and_the_count_is_right():
    images = clusters(2000, 128, 10)
    random = np.random.default_rng(2)
    copied = random.choice(1900, 100, replace=False)
    copies = images.vectors[copied] * (1 + 0.01 * random.standard_normal((100, 128)))
    images.vectors[1900:] = copies
    targets = images.targets.copy()
    targets[1900:] = targets[copied]
    groups = near_duplicate_groups(images.vectors)
    assert images_not_alone(groups) == 200
    sides = split_images(dataclasses.replace(images, targets=targets, groups=groups), 0.2, seed=3)
    is_held_out = np.zeros(2000, bool)
    is_held_out[sides.held_out] = True
    assert (is_held_out[copied] == is_held_out[1900:]).all()
    assert 0 < is_held_out[copied].sum() < 100
    without = split_images(dataclasses.replace(images, targets=targets), 0.2, seed=3)
    is_held_out[:] = False
    is_held_out[without.held_out] = True
    assert (is_held_out[copied] != is_held_out[1900:]).any()


def test_a_chain_is_one_group():
    angles = np.deg2rad(np.arange(0, 60, 5.0))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert near_duplicate_groups(vectors, 0.997).tolist() == list(range(12))
    assert near_duplicate_groups(vectors, 0.99).tolist() == [0] * 12


def test_images_that_are_all_alike_are_one_group_and_empty_vectors_are_like_none():
    vectors = np.ones((3000, 16), np.float32) * np.linspace(1e-30, 1e30, 3000)[:, None]
    vectors = vectors.astype(np.float32)
    assert near_duplicate_groups(vectors, 1.0).tolist() == [0] * 3000
    assert near_duplicate_groups(np.zeros((3, 16), np.float32)).tolist() == [0, 1, 2]
    assert near_duplicate_groups(np.zeros((0, 16), np.float32)).tolist() == []


def test_groups_of_both_kinds_are_joined():
    near, of_patients = np.array([0, 1, 1, 2, 3]), np.array([5, 5, 9, 8, 8])
    assert joined_groups(near, of_patients).tolist() == [0, 0, 0, 1, 1]
    assert joined_groups(near, None).tolist() == near.tolist()


@pytest.mark.parametrize("threshold", [0.0, 1.1, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(threshold):
    with pytest.raises(UserError, match=r"^threshold .*: a cosine above 0"):
        near_duplicate_groups(np.ones((2, 2), np.float32), threshold)


def test_whoever_waits_for_many_images_is_told_how_far_it_is(monkeypatch):
    monkeypatch.setattr(duplicates, "_SECONDS_BETWEEN_LINES", 0)
    vectors, told = clusters(5000, 4, 2).vectors, []
    near_duplicate_groups(vectors, progress=told.append)
    assert not told
    monkeypatch.setattr(duplicates, "_MANY_IMAGES", 4999)
    near_duplicate_groups(vectors, progress=told.append)
    assert [line.split(" images")[0].split()[2] for line in told] == ["2,048", "4,096", "5,000"]
    assert told[-1].endswith("about 0 s left")


def test_many_edges_are_thinned_and_nothing_is_lost(monkeypatch):
    random = np.random.default_rng(1)
    vectors = np.repeat(random.standard_normal((500, 16)), 10, axis=0).astype(np.float32)
    monkeypatch.setattr(duplicates, "_MOST_EDGES", 100)
    assert near_duplicate_groups(vectors).tolist() == np.repeat(np.arange(500), 10).tolist()
