"""Both sides have every class in the wanted share, and no group is torn."""

from __future__ import annotations

import numpy as np
import pytest

from consumers.training.split import folds, split_images
from tests.consumers.training.clusters import labelled
from transforms.errors import UserError


def images(targets, groups=None):
    targets = np.asarray(targets)
    groups = None if groups is None else np.asarray(groups)
    return labelled(np.zeros((len(targets), 1), np.float32), targets, groups)


def test_every_class_is_held_out_in_its_share_to_the_image():
    targets = np.repeat([0, 1, 2, 3], [500, 100, 10, 2])
    sides = split_images(images(targets), 0.2, seed=7)
    assert np.bincount(targets[sides.held_out]).tolist() == [100, 20, 2, 1]
    both = np.concatenate([sides.train, sides.held_out])
    assert np.sort(both).tolist() == list(range(612))
    again, other = (
        split_images(images(targets), 0.2, seed=7),
        split_images(images(targets), 0.2, seed=8),
    )
    assert (again.held_out == sides.held_out).all()
    assert (other.held_out[:100] != sides.held_out[:100]).any()


def test_groups_of_all_sizes_stay_together_and_the_share_is_near():
    random = np.random.default_rng(0)
    groups = np.minimum(random.zipf(1.8, 3000), 500)
    targets = random.integers(0, 5, 3000)
    sides = split_images(images(targets, groups), 0.25, seed=0)
    assert not set(groups[sides.train]) & set(groups[sides.held_out])
    shares = np.bincount(targets[sides.held_out], minlength=5) / np.bincount(targets)
    assert (abs(shares - 0.25) < 0.1).all()


def test_a_class_of_two_large_groups_is_on_both_sides():
    targets = np.repeat([0, 1], [100, 100])
    groups = np.concatenate([np.repeat([0, 1], 50), np.arange(2, 102)])
    sides = split_images(images(targets, groups), 0.2, seed=0)
    assert np.bincount(targets[sides.train], minlength=2).tolist() == [50, 80]
    assert np.bincount(targets[sides.held_out], minlength=2).tolist() == [50, 20]


def test_images_of_several_classes_keep_the_shares_of_rare_ones():
    random = np.random.default_rng(0)
    targets = random.random((2000, 6)) < [0.5, 0.3, 0.1, 0.05, 0.01, 0.003]
    targets[:3, 5] = True
    sides = split_images(images(targets), 0.2, seed=0)
    wanted = targets.sum(axis=0) * 0.2
    assert (abs(targets[sides.held_out].sum(axis=0) - wanted) <= 1 + 0.02 * wanted).all()
    of_none = ~targets.any(axis=1)
    assert abs(of_none[sides.held_out].sum() - 0.2 * of_none.sum()) <= 2


@pytest.mark.parametrize(
    ("targets", "groups", "told"),
    [
        ([0, 0, 1], None, "class 'class 01': it has one image, so"),
        ([0, 0, 1, 1, 1], [0, 1, 2, 2, 2], "class 'class 01': all 3 images of it are in one group"),
        ([0, 1, 0, 2, 1, 2], [0, 0, 1, 1, 2, 2], "its groups hold other classes"),
    ],
)
def test_a_class_that_cannot_be_on_both_sides_is_named(targets, groups, told):
    with pytest.raises(UserError, match=told):
        split_images(images(targets, groups), 0.5, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, float("nan")])
def test_a_share_of_nothing_or_all_is_refused(fraction):
    with pytest.raises(UserError, match=r"^fraction .*: a share above 0 and below 1"):
        split_images(images([0, 0, 1, 1]), fraction, seed=0)


def test_folds_have_equal_shares_and_whole_groups():
    targets = np.repeat([0, 1, 2], [500, 50, 5])
    groups = np.arange(555) // 2
    fold_of = folds(images(targets, groups), 5, seed=0)
    assert (fold_of[:554:2] == fold_of[1:554:2]).all()
    for number in range(5):
        counts = np.bincount(targets[fold_of == number], minlength=3)
        assert abs(counts - [100, 10, 1]).max() <= 2


SETS = {
    "one class an image": (np.arange(200) % 4, None),
    "groups": (np.arange(200) // 3 % 4, np.random.default_rng(0).integers(0, 120, 200)),
    "several classes": (np.random.default_rng(0).random((200, 4)) < [0.5, 0.3, 0.2, 0.1], None),
}


def held_out_ids(of, seed=0):
    return set(of.ids[split_images(of, 0.2, seed).held_out])


def folds_by_id(of):
    return dict(zip(of.ids, folds(of, 5, seed=0).tolist(), strict=True))


@pytest.mark.parametrize("name", SETS)
def test_the_order_of_the_images_does_not_matter(name):
    of = images(*SETS[name])
    for order in (np.arange(200)[::-1], np.random.default_rng(1).permutation(200)):
        other = of.take(order)
        if other.groups is not None:  # the same groups by other numbers, as duplicates count them
            numbers = other.groups * 7 % 121
            other = labelled(other.vectors, other.targets, numbers)
            other.ids[:] = of.ids[order]
        assert held_out_ids(other) == held_out_ids(of)
        assert folds_by_id(other) == folds_by_id(of)


@pytest.mark.parametrize("name", SETS)
def test_one_image_less_moves_few_others(name):
    of = images(*SETS[name])
    moved, changed = [], []
    for gone in range(0, 200, 5):
        rest = np.delete(np.arange(200), gone)
        both = held_out_ids(of) - {of.ids[gone]}, held_out_ids(of.take(rest))
        moved.append(len(both[0] ^ both[1]))
        before, after = folds_by_id(of), folds_by_id(of.take(rest))
        changed.append(sum(before[image] != fold for image, fold in after.items()))
    assert np.mean(moved) <= (1 if name != "groups" else 6)
    assert np.mean(changed) <= (4 if name != "groups" else 20)
    if name == "one class an image":
        assert max(moved) <= 1
        assert max(changed) <= 4
