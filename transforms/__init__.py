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

from transforms import coders
from transforms.batches import FeatureBatch, ImageBatch
from transforms.commit import CommitParts
from transforms.dataset.columns import PartFormat
from transforms.dataset.part import Part
from transforms.decode import DecodeShards
from transforms.errors import ErrorRow, UserError
from transforms.images.spec import ImageSpec
from transforms.infer import InferFeatures, SavedModelHandler
from transforms.inputs.examples import ExampleSpec
from transforms.inputs.listing import Listing, list_images
from transforms.models.source import ModelSource
from transforms.refs import ImageRef
from transforms.shards import Shard, ShardPointer, group_into_shards, write_plan

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

coders.register_coders()
