"""What a worker is sent as an element is data: it was unpickled, and so could run anything."""

from __future__ import annotations

import os
import pathlib
import pickle

import apache_beam as beam
import pytest

from tests.helpers.limits import within_limits
from transforms import (
    CommitParts,
    DecodeShards,
    FeatureBatch,
    ImageBatch,
    ImageSpec,
    InferFeatures,
    ModelSource,
    PartFormat,
    ShardPointer,
)


class Bomb:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: pathlib.Path):
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def decode(element: type, encoded: bytes) -> object:
    return beam.coders.registry.get_coder(element).decode(encoded)


@pytest.mark.parametrize("element", [ImageBatch, FeatureBatch, ShardPointer])
@pytest.mark.parametrize("start", [b"", b"z", b"\x82", b"\x00"], ids=repr)
def test_nothing_in_an_element_runs(element: type, start: bytes, tmp_path: pathlib.Path) -> None:
    with pytest.raises(Exception, match=r".") as refused:
        within_limits(decode, element, start + pickle.dumps(Bomb(tmp_path / "ran")))
    assert not isinstance(refused.value, AssertionError)
    assert not (tmp_path / "ran").exists()


def test_all_that_flows_between_our_steps_has_a_layout(tmp_path: pathlib.Path) -> None:
    pipeline = beam.Pipeline()
    shards = pipeline | beam.Create([ShardPointer("plan", 0, "a" * 16, 1)])
    images = shards | DecodeShards(ImageSpec(16, 16))
    features = images | InferFeatures(ModelSource("model"))
    features | CommitParts(str(tmp_path), PartFormat("feature_vector", width=8))
    for collection in (shards, images, features):
        coder = beam.coders.registry.get_coder(collection.element_type)
        assert type(coder).__module__ == "transforms.coders"
