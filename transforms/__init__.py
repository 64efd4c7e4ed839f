"""Beam transforms from images to feature vectors in Parquet, usable in anybody's pipeline.

    shards = write_plan(group_into_shards(list_images(["photos/"]).refs, 4096), "out/_plan", "run")
    (
        pipeline
        | beam.Create(shards)
        | DecodeShards(ImageSpec(224, 224))
        | InferFeatures(ModelSource("my_saved_model"))
        | CommitParts("out", PartFormat("feature_vector", width=1280))
    )

Nothing here knows the command line.
"""

from transforms.batches import FeatureBatch, ImageBatch
from transforms.commit import CommitParts
from transforms.decoding import DecodeShards
from transforms.errors import ErrorRow, UserError
from transforms.images import ImageSpec
from transforms.inference import InferFeatures, SavedModelHandler
from transforms.match import Listing, list_images
from transforms.models import ModelSource
from transforms.part_format import PartFormat
from transforms.parts import Part
from transforms.refs import ImageRef
from transforms.shards import Shard, ShardPointer, group_into_shards, write_plan
from transforms.tf_examples import ExampleSpec

__all__ = [
    "CommitParts",
    "DecodeShards",
    "ErrorRow",
    "ExampleSpec",
    "FeatureBatch",
    "ImageBatch",
    "ImageRef",
    "ImageSpec",
    "InferFeatures",
    "Listing",
    "ModelSource",
    "Part",
    "PartFormat",
    "SavedModelHandler",
    "Shard",
    "ShardPointer",
    "UserError",
    "group_into_shards",
    "list_images",
    "write_plan",
]
