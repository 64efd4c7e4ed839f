"""Training sees the pipeline's own pixels, in an order that follows from the seed."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from consumers.tuning.images import LabelledImage, epoch_order, read_labelled
from transforms.errors import UserError
from transforms.images.decode import decode_image
from transforms.images.resize import to_float
from transforms.images.spec import ImageSpec
from transforms.inputs.listing import list_images
from transforms.refs import ImageRef


def test_the_pixels_are_those_of_the_pipeline(photos, tmp_path):
    spec = ImageSpec(40, 50)
    refs = list_images([str(path) for path in photos[:7]]).refs
    labelled = [LabelledImage(ref, at % 3) for at, ref in enumerate(refs)]
    order = epoch_order(len(labelled), seed=3, epoch=1)
    seen: dict[int, np.ndarray] = {}
    for batch in read_labelled(labelled, order, 3, spec, batch_size=3):
        assert batch.targets.argmax(1).tolist() == [labelled[row].target for row in batch.rows]
        for row, pixels in zip(batch.rows, batch.images, strict=True):
            seen[row] = pixels
    assert list(seen) == order.tolist()
    for row, pixels in seen.items():
        expected = decode_image(pathlib.Path(refs[row].uri).read_bytes(), spec).pixels
        as_float = [p if p.dtype == np.float32 else to_float(p) for p in (pixels, expected)]
        np.testing.assert_array_equal(*as_float)


def test_each_epoch_has_an_order_of_its_own():
    orders = [epoch_order(50, seed, epoch).tolist() for seed in (0, 1) for epoch in (1, 2)]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] == epoch_order(50, 0, 1).tolist()


def test_a_skipped_image_leaves_the_positions_of_the_others(tmp_path, photos):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    refs = list_images([str(bad), *map(str, photos[:2])]).refs
    labelled = [LabelledImage(ref, 0) for ref in refs]
    order = np.array(sorted(range(3), key=lambda at: refs[at].uri != str(bad)))
    [batch] = read_labelled(labelled, order, 2, ImageSpec(8, 8), 8)
    assert batch.positions == (1, 2)
    assert [row.id for row in batch.skipped] == [str(bad)]
    assert batch.images.shape == (2, 8, 8, 3)


def test_a_record_of_a_container_is_refused():
    record = ImageRef("a", "a.tfrecord", "1", record_index=0, offset=0)
    with pytest.raises(UserError, match="a: a record of a file; fine-tuning reads image files"):
        list(read_labelled([LabelledImage(record, 0)], np.array([0]), 2, ImageSpec(8, 8), 1))
