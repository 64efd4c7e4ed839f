"""The whole pipeline in one place: from planned shards to committed parts."""

from __future__ import annotations

import functools
from collections.abc import Callable

import apache_beam as beam

from pipeline.settings import Settings
from transforms.commit import CommitParts
from transforms.dataset.layout import part_path
from transforms.dataset.part import Part
from transforms.decode import DecodeShards
from transforms.infer import InferFeatures
from transforms.shards import ShardPointer


def build(
    pipeline: beam.Pipeline,
    shards: list[ShardPointer],
    settings: Settings,
    output: str,
    before_commit: Callable[[], None],
) -> beam.PCollection[Part]:
    """Applies the transforms; everything from decoding to commit runs as one fused stage.

    Args:
      pipeline: to add to.
      shards: what to do.
      settings: how.
      output: directory of the parts.
      before_commit: called on the worker before each part appears.
    """
    return (
        pipeline
        | "Shards" >> beam.Create(shards)
        | "Decode"
        >> DecodeShards(
            settings.image,
            settings.batch_size,
            settings.examples,
            load_tensorflow=settings.load_tensorflow,
            part_path=functools.partial(part_path, output),
        )
        | "Infer" >> InferFeatures(settings.source, settings.engine, settings.precision)
        | "Commit" >> CommitParts(output, settings.part_format, before_commit)
    )
