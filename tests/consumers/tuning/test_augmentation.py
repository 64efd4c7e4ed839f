"""Augmentation moves images as Keras does, the same way each time, and invents no values."""

from __future__ import annotations

import numpy as np
import pytest

from consumers.tuning.augmentation import affine_maps, augmented
from consumers.tuning.options import Augmentation
from transforms.errors import UserError

NONE = Augmentation(0, False, 0, 0, 0, 0)


def images(count: int, height: int = 9, width: int = 12) -> np.ndarray:
    return np.random.default_rng(0).random((count, height, width, 3), np.float32)


def test_the_same_seed_step_and_position_move_an_image_the_same_way():
    maps = affine_maps(Augmentation(), range(6), 9, 12, seed=1, step=7)
    assert len(np.unique(maps, axis=0)) == 6
    np.testing.assert_array_equal(maps[[2, 5]], affine_maps(Augmentation(), [2, 5], 9, 12, 1, 7))
    for seed, step in ((2, 7), (1, 8)):
        assert not np.array_equal(maps, affine_maps(Augmentation(), range(6), 9, 12, seed, step))


def test_values_stay_in_their_range_and_images_in_their_size():
    batch = images(40)
    moved = augmented(batch, affine_maps(Augmentation(), range(40), 9, 12, 0, 0)).numpy()
    assert moved.shape == batch.shape
    assert batch.min() <= moved.min() < moved.max() <= batch.max()
    assert not np.array_equal(moved, batch)


def test_nothing_asked_for_moves_nothing():
    batch = images(4)
    np.testing.assert_array_equal(augmented(batch, affine_maps(NONE, range(4), 9, 12, 0, 0)), batch)


def test_half_of_the_images_are_mirrored():
    batch = images(60)
    only_flips = Augmentation(0, True, 0, 0, 0, 0)
    moved = augmented(batch, affine_maps(only_flips, range(60), 9, 12, 0, 0)).numpy()
    mirrored = [np.array_equal(moved[at], batch[at, :, ::-1]) for at in range(60)]
    assert 20 < sum(mirrored) < 40
    for after, image, is_mirrored in zip(moved, batch, mirrored, strict=True):
        np.testing.assert_array_equal(after, image[:, ::-1] if is_mirrored else image)


def test_the_maps_are_those_of_keras():
    """SciPy applies the same map, as Keras' `apply_affine_transform` does."""
    from scipy import ndimage

    batch = images(8, 20, 26)
    maps = affine_maps(Augmentation(horizontal_flip=False), range(8), 20, 26, 3, 5)
    moved = augmented(batch, maps).numpy()
    for image, after, (c1, c0, c2, r1, r0, r2, *_) in zip(batch, moved, maps, strict=True):
        for channel in range(3):
            expected = ndimage.affine_transform(
                image[:, :, channel], [[r0, r1], [c0, c1]], [r2, c2], order=1, mode="nearest"
            )
            np.testing.assert_allclose(after[:, :, channel], expected, atol=2e-3)


def test_a_quarter_turn_goes_about_the_centre():
    """Of all maps that may be drawn, none moves the centre where there is no shift."""
    turned = affine_maps(Augmentation(180, False, 0, 0, 0, 0), range(20), 11, 11, 0, 0)
    for c1, c0, c2, r1, r0, r2, *_ in turned:
        assert (r0 * 5 + r1 * 5 + r2, c0 * 5 + c1 * 5 + c2) == pytest.approx((5, 5), abs=1e-5)
        assert r0 * c1 - r1 * c0 == pytest.approx(1, abs=1e-5)


def test_shifts_stay_within_their_share():
    shifts = affine_maps(Augmentation(0, False, 0.25, 0.5, 0, 0), range(200), 10, 40, 0, 0)
    assert 8 < np.abs(shifts[:, 2]).max() <= 10
    assert 4 < np.abs(shifts[:, 5]).max() <= 5


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"rotation_range": -1}, "rotation_range -1: must not be negative"),
        ({"zoom_range": 1.5}, "zoom_range 1.5: must be below 1"),
    ],
)
def test_what_cannot_be_is_refused(given, told):
    with pytest.raises(UserError, match=told):
        Augmentation(**given)
