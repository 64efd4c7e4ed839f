"""`python -m examples.own_pipeline PHOTOS OUT`: the transforms in a pipeline of one's own.

Lists and plans the shards here, then decodes, infers and commits on the workers. The runner must
fuse the last three; all batch runners of Beam do.
"""

from __future__ import annotations

import logging
import os
import sys

import apache_beam as beam

import runners.direct
from transforms import (
    CommitParts,
    DecodeShards,
    ImageSpec,
    InferFeatures,
    ModelSource,
    PartFormat,
    group_into_shards,
    list_images,
    write_plan,
)


def main(photos: str, output: str) -> None:
    """Feature vectors of the built-in model for a directory of photos."""
    shards = group_into_shards(list_images([photos]).refs, rows_per_file=4096)
    pointers = write_plan(shards, f"{output}/_plan", "example")
    options = beam.options.pipeline_options.PipelineOptions([])
    with beam.Pipeline(runner=runners.direct.create(options), options=options) as pipeline:
        parts = (
            pipeline
            | beam.Create(pointers)
            | DecodeShards(ImageSpec(height=224, width=224), batch_size=32)
            | InferFeatures(ModelSource())
            | CommitParts(output, PartFormat("feature_vector", width=1280))
        )
        _ = parts | beam.Map(lambda part: print(f"{part.shard}: {part.rows} rows"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else it tells a lot
    logging.basicConfig(level=logging.ERROR)
    main(*sys.argv[1:])
