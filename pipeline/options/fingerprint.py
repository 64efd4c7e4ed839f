"""The settings that decide ids, numbers and columns: what one output shares.

A change in pixels, numbers or columns belongs here: an output of other settings is then refused.
"""

from __future__ import annotations

import hashlib

from pipeline.options.values import InputOptions
from pipeline.options.written import fingerprint_arguments
from transforms.dataset.columns import PartFormat
from transforms.engines import EngineName, Precision
from transforms.images.spec import ImageSpec
from transforms.models.source import UNIT_RANGE, ModelSource, range_text


def fingerprint(
    options: InputOptions,
    source: ModelSource,
    model_sha256: str,
    engine: EngineName,
    precision: Precision,
    image: ImageSpec,
    part_format: PartFormat,
) -> tuple[tuple[str, str], ...]:
    """The settings that decide ids, numbers and columns, by name: what one output shares.

    Args:
      options: what is read.
      source: the model.
      model_sha256: of its files.
      engine, precision: what runs it.
      image, part_format: what it sees, and what is written.
    """
    kept = [str(column) for column in part_format.kept]
    names = "\n".join(part_format.class_names)
    entries = model_entries(source, model_sha256) | {
        "input": image.kind,
        "image_size": f"{image.height}x{image.width}" if image.kind == "pixels" else "as stored",
        "pixels": image.pixels,
        "decode": image.decode,
        "resize": "bilinear",
        "engine": engine,
        "precision": precision,
        "vector": f"{part_format.vector_column} float32[{part_format.width}]",
        "top_k": str(part_format.top_k),
        "activation": part_format.activation,
        "labels_sha256": hashlib.sha256(names.encode()).hexdigest()[:16] if names else "none",
        "label_from_parent": str(options.label_from_parent),
        "keep": ",".join(kept) or "none",
        "tfrecord_image_key": options.image_key,
        "version": options.version,
        "tfrecord_id_key": options.id_key or "FILE#INDEX",
    }
    return tuple(sorted(entries.items()))


def model_entries(source: ModelSource, model_sha256: str) -> dict[str, str]:
    """Those of the model alone: which one, and how it is called.

    Args:
      source: the model.
      model_sha256: of its files.
    """
    entries = {
        "model": source.name if source.is_builtin else "SavedModel",
        "model_sha256": model_sha256[:16],
        "task": source.task,
        "signature": source.signature or "default",
        "tags": "default" if source.tags is None else ",".join(source.tags) or "none",
        "output_key": source.output_key or "default",
        "pool": source.pool or "none",
        "model_args": fingerprint_arguments(source.arguments),
    }
    # Later than outputs that lack them: only where they are not the default.
    if source.value_range != UNIT_RANGE:
        entries["value_range"] = range_text(source.value_range)
    if source.layout != "NHWC":
        entries["model_layout"] = source.layout
    return entries
