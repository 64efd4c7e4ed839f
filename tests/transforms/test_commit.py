"""Commit at the end of a pipeline: whole shards, once, or a job that fails loudly."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

import runners.direct
from tests.helpers.images import write_random_images
from tests.helpers.tiny_model import TINY_SIZE, TINY_WIDTH
from transforms import shards
from transforms.batches import BatchPlace, FeatureBatch, ImageRow
from transforms.commit import CommitParts
from transforms.dataset.columns import PartFormat
from transforms.dataset.layout import part_name
from transforms.dataset.part import Part, read_part
from transforms.decode import DecodeShards
from transforms.errors import CorruptImageError, error_row
from transforms.images.spec import ImageSpec
from transforms.infer import InferFeatures
from transforms.models.source import ModelSource
from transforms.refs import ImageRef
from transforms.shards import ShardPointer

TINY_FORMAT = PartFormat("feature_vector", width=TINY_WIDTH)

NOT_WHOLE = r"then came refs|ended in the middle of a shard"


def feature_batches(shard: str, size: int, batch_size: int = 4) -> list[FeatureBatch]:
    """All batches of a shard; the last ref of each batch is an error."""
    batches = []
    for start in range(0, size, batch_size):
        refs = [
            ImageRef(f"{shard}/{number}", "a.png", "1")
            for number in range(start, min(size, start + batch_size))
        ]
        batches.append(
            FeatureBatch(
                np.full((len(refs) - 1, TINY_WIDTH), start, np.float32),
                tuple(ImageRow(ref, 20, 30) for ref in refs[:-1]),
                (error_row(refs[-1], "decode", CorruptImageError("cut off")),),
                BatchPlace(shard, size, start, len(refs)),
            )
        )
    return batches


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a pipeline that ends in CommitParts did."""

    parts: list[Part]
    metrics: dict[str, int]


def run(
    output: pathlib.Path,
    build: Callable,
    expected: Sequence[str] | None = None,
    flags: Sequence[str] = (),
) -> Outcome:
    """Runs `build(pipeline) | CommitParts`; `expected` are the shards that it must tell of."""
    options = PipelineOptions(list(flags))
    pipeline = beam.Pipeline(runner=runners.direct.create(options), options=options)
    committed = build(pipeline) | CommitParts(str(output), TINY_FORMAT)
    if expected is not None:
        assert_that(committed | beam.Map(lambda part: part.shard), equal_to(list(expected)))
    result = pipeline.run()
    result.wait_until_finish()
    metrics = result.metrics().query(MetricsFilter().with_namespace("image_features"))
    return Outcome(
        parts_in(output),
        {counter.key.metric.name: counter.result for counter in metrics["counters"]},
    )


def parts_in(output: pathlib.Path) -> list[Part]:
    return [read_part(str(path)) for path in sorted(output.glob("part-*"))]


def in_order(batches: Sequence[FeatureBatch]) -> Callable:
    """A fused stage that gives `batches` from one element."""

    def build(pipeline: beam.Pipeline) -> beam.PCollection[FeatureBatch]:
        produce = beam.FlatMap(lambda _: batches).with_output_types(FeatureBatch)
        return pipeline | beam.Create([0], reshuffle=False) | produce

    return build


def plan(directory: pathlib.Path, count: int, rows_per_file: int) -> list[ShardPointer]:
    paths = write_random_images(directory / "images", count)
    paths[count // 2].write_bytes(b"no image")
    refs = [ImageRef(str(path), str(path), "1") for path in paths]
    planned = shards.group_into_shards(refs, rows_per_file)
    return shards.write_plan(planned, str(directory / "plan"), "p")


def files_in(output: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())


def infer(pointers: list[ShardPointer], model: pathlib.Path) -> Callable:
    def build(pipeline: beam.Pipeline) -> beam.PCollection[FeatureBatch]:
        spec = ImageSpec(TINY_SIZE, TINY_SIZE)
        images = pipeline | beam.Create(pointers) | DecodeShards(spec, batch_size=4)
        return images | InferFeatures(ModelSource(str(model)))

    return build


def test_each_shard_becomes_a_part_with_all_its_images(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    pointers = plan(tmp_path, 50, rows_per_file=20)
    names = [pointer.name for pointer in pointers]
    outcome = run(tmp_path / "out", infer(pointers, tiny_model), expected=names)

    sizes = {part.shard: part.rows + part.errors for part in outcome.parts}
    assert sizes == {pointer.name: pointer.size for pointer in pointers}
    assert (outcome.metrics["rows"], outcome.metrics["error_rows"]) == (49, 1)
    frame = pd.read_parquet(tmp_path / "out")
    [bad] = [part.errors_file for part in outcome.parts if part.errors_file]
    errors = pq.read_table(tmp_path / "out" / "_errors" / bad)["id"].to_pylist()
    matched = {ref.id for pointer in pointers for ref in shards.read_shard(pointer).refs}
    assert sorted([*frame["id"], *errors]) == sorted(matched)
    for pointer in pointers:
        ids = [ref.id for ref in shards.read_shard(pointer).refs if ref.id not in errors]
        table = pq.read_table(tmp_path / "out" / part_name(pointer.name))
        assert table["id"].to_pylist() == ids


def test_a_second_run_of_the_same_shards_changes_no_row(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    pointers = plan(tmp_path, 30, rows_per_file=20)
    run(tmp_path / "out", infer(pointers, tiny_model))
    before = pd.read_parquet(tmp_path / "out")
    files = files_in(tmp_path / "out")
    run(tmp_path / "out", infer(pointers, tiny_model))
    assert files_in(tmp_path / "out") == files
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out"), before)


def test_the_same_shard_twice_in_one_bundle_gives_its_rows_once(tmp_path: pathlib.Path) -> None:
    batches = feature_batches("a" * 16, 10)
    outcome = run(tmp_path, in_order(batches + batches), expected=["a" * 16, "a" * 16])
    assert [(part.rows, part.errors) for part in outcome.parts] == [(7, 3)]
    assert len(pd.read_parquet(tmp_path)) == 7


def test_without_fusion_the_job_fails_and_no_part_lacks_rows(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    pointers = plan(tmp_path, 120, rows_per_file=40)
    assert min(pointer.size for pointer in pointers) > 8  # several batches each
    fused = infer(pointers, tiny_model)
    output = tmp_path / "out"
    two_bundles = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    with pytest.raises(Exception, match=NOT_WHOLE):
        run(output, lambda pipeline: fused(pipeline) | beam.Reshuffle(), flags=two_bundles)

    sizes = {pointer.name: pointer.size for pointer in pointers}
    for part in parts_in(output):
        assert part.rows + part.errors == sizes[part.shard]
    assert not [name for name in files_in(output) if name.startswith("_tmp-")]


ONE, OTHER = feature_batches("a" * 16, 12), feature_batches("b" * 16, 12)
WRONG = {
    "the last batch is missing": ONE[:2],
    "the first batch is missing": ONE[1:],
    "a batch in the middle is missing": [ONE[0], ONE[2]],
    "in another order": [ONE[0], ONE[2], ONE[1]],
    "a batch twice": [ONE[0], ONE[0], ONE[1], ONE[2]],
    "two shards mixed": [ONE[0], OTHER[0], ONE[1], OTHER[1], ONE[2], OTHER[2]],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_shard_that_does_not_arrive_whole_and_in_order_fails_and_leaves_nothing(
    tmp_path: pathlib.Path, wrong: str
) -> None:
    with pytest.raises(Exception, match=NOT_WHOLE):
        run(tmp_path, in_order(WRONG[wrong]))
    assert files_in(tmp_path) == []


def test_a_whole_shard_before_a_broken_one_stays_committed(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Exception, match="ended in the middle of a shard"):
        run(tmp_path, in_order([*ONE, *OTHER[:2]]))
    assert [(part.shard, part.rows, part.errors) for part in parts_in(tmp_path)] == [
        ("a" * 16, 9, 3)
    ]
    assert len(pd.read_parquet(tmp_path)) == 9


def test_a_shard_that_gathers_many_rows_leaves_nothing_if_it_breaks_off(
    tmp_path: pathlib.Path,
) -> None:
    """Over 1,024 rows a row group is on disk already, in a temporary file."""
    batches = feature_batches("a" * 16, 2000, batch_size=100)
    with pytest.raises(Exception, match="ended in the middle of a shard"):
        run(tmp_path, in_order(batches[:-1]))
    assert files_in(tmp_path) == []

    with pytest.raises(Exception, match="then came refs"):
        run(tmp_path, in_order([*batches[:-2], batches[-1]]))
    assert files_in(tmp_path) == []


def test_parts_have_their_own_type_in_a_pipeline(tmp_path: pathlib.Path) -> None:
    batches = beam.Pipeline() | beam.Create([0]) | beam.FlatMap(lambda _: ONE)
    assert (batches | CommitParts(str(tmp_path), TINY_FORMAT)).element_type is Part
