"""The model on the job's own first images, before any is computed: what would spoil all of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from pipeline.settings import Settings
from transforms import engines
from transforms.errors import Parameter, UserError
from transforms.examine.trial import MOST_IMAGES, try_images
from transforms.images.read_ahead import decode_shard
from transforms.images.resize import to_float
from transforms.refs import ImageRef
from transforms.shards import Shard

# Twice as many, as some may be no images.
_MOST_REFS = 2 * MOST_IMAGES


def tried(settings: Settings, todo: Iterable[ImageRef], accept: bool) -> Settings:
    """The settings, with how the model did on the first images; nothing is done if there are none.

    Args:
      settings: with the engine that will run.
      todo: what there is to compute.
      accept: whether a model that fails is run all the same.

    Raises:
      UserError: the model gives an image other vectors in another call or another batch.
    """
    refs = list(itertools.islice(todo, _MOST_REFS))
    if not refs:
        return settings
    source = settings.source
    engine = engines.load(source, settings.engine, settings.precision)
    images = _first_images(refs, settings)
    size = settings.image.height, settings.image.width
    checks = try_images(engine, images, size, source, settings.precision, settings.batch_size)
    for check in checks:
        if check.status == "fail" and not accept:
            raise UserError(
                f"is not {check.name}: ",
                *check.seen.pieces,
                ". Is augmentation or dropout active in it? Save it for inference; ",
                Parameter("accept_model"),
                " runs it as it is",
                subject=source.subject,
            )
    return dataclasses.replace(settings, checks=checks)


def _first_images(refs: list[ImageRef], settings: Settings) -> np.ndarray:
    """Those that can be decoded: float32 [B, H, W, 3] in [0, 1], or bytes [B]; B may be 0."""
    first = refs[0]
    alike = [
        ref for ref in refs if (ref.uri == first.uri if first.is_record else not ref.is_record)
    ]
    found: list[np.ndarray] = []
    for some in (alike[:MOST_IMAGES], alike[MOST_IMAGES:]):
        if some and len(found) < MOST_IMAGES:
            shard = Shard(tuple(some))
            for batch in decode_shard(shard, settings.image, MOST_IMAGES, settings.examples):
                pixels = batch.images
                found += [*(to_float(pixels) if pixels.dtype == np.uint8 else pixels)]
    found = found[:MOST_IMAGES]
    if settings.image.kind != "pixels":
        return np.array(found, object)
    empty = np.empty((0, settings.image.height, settings.image.width, 3), np.float32)
    return np.stack(found) if found else empty
