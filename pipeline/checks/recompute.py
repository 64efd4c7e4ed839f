"""Images of a sample computed again, with the program, the model and the libraries of today."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipeline.checks.sample import StoredImage
from pipeline.settings import Settings
from transforms import engines, storage
from transforms.batches import ImageRow
from transforms.engines import parity
from transforms.engines.bisection import ModelFailedError
from transforms.errors import ErrorRow, Message, Piece, UserError, was_read
from transforms.images.read_ahead import decode_shard
from transforms.infer import infer
from transforms.inputs.content_versions import with_content_versions
from transforms.inputs.listing import list_images
from transforms.refs import ImageRef, is_content_version
from transforms.shards import Shard


@dataclasses.dataclass
class Recomputed:
    """How the images of a sample came out.

    Attributes:
      images: how many there are in the sample.
      compared: how many vectors could be compared.
      problems: one line for each image that came out differently.
      outdated: the same for each whose file is another one by now, or cannot be read: by its id.
      relative_difference: the largest of any value, relative to the norm of the stored vector.
      smallest_cosine: between a stored and a new vector.
    """

    images: int = 0
    compared: int = 0
    problems: list[Message] = dataclasses.field(default_factory=list)
    outdated: dict[str, Message] = dataclasses.field(default_factory=dict)
    relative_difference: float = 0.0
    smallest_cosine: float = 1.0


def recompute(images: Sequence[StoredImage], settings: Settings) -> Recomputed:
    """Computes images again and compares them with what is stored.

    Vectors are equal within the tolerance of `transforms.engines.parity` for the precision: in a
    batch with other images the last bits differ.
    """
    result = Recomputed(images=len(images))
    stored = {image.id: image for image in images}
    found: list[ImageRef] = []
    for uri, those in _by_uri(images):
        refs, where = _refs(uri, those, settings)
        found += refs
        known = {ref.id for ref in refs}
        for image in those:
            if image.id not in known:
                result.outdated[image.id] = Message((f"id {image.id!r}: ", *where))
    try:
        for ref, row, vector, error in _compute(found, settings):
            outdated = _outdated(stored[ref.id], row, error)
            if outdated:
                result.outdated[ref.id] = Message((f"id {ref.id!r}: {outdated}",))
                continue
            problem = _difference(stored[ref.id], row, vector, error, settings.precision, result)
            if problem:
                result.problems.append(Message((f"id {ref.id!r}: {problem}",)))
    except ModelFailedError as failure:
        result.problems.append(Message((f"the sample cannot be computed again: {failure}",)))
    return result


def _by_uri(images: Iterable[StoredImage]) -> list[tuple[str, list[StoredImage]]]:
    groups: collections.defaultdict[str, list[StoredImage]] = collections.defaultdict(list)
    for image in images:
        groups[image.uri].append(image)
    return sorted(groups.items())


def _refs(
    uri: str, images: Sequence[StoredImage], settings: Settings
) -> tuple[list[ImageRef], tuple[Piece, ...]]:
    """Where the images of one file are now, and what there is to say of those that are not."""
    is_container = images[0].is_record
    if storage.is_local(uri) and not is_container:
        return [ImageRef(image.id, uri, image.version) for image in images], ()
    try:
        listing = list_images(
            [uri],
            "tfrecord" if is_container else "files",
            settings.examples.id_key,
            max_file_bytes=settings.image.max_file_bytes,
        )
    except UserError as error:
        return [], ("cannot be computed again: ", *error.pieces)
    wanted = {image.id: image for image in images}
    refs = [ref for ref in listing.refs if ref.id in wanted]
    if any(is_content_version(image.version) for image in images):
        refs = with_content_versions(refs, settings.image.max_file_bytes)
    return refs, (f"{uri} does not hold it any more",)


def _compute(
    refs: Sequence[ImageRef], settings: Settings
) -> Iterator[tuple[ImageRef, ImageRow | None, np.ndarray | None, ErrorRow | None]]:
    """What becomes of each ref: a row and its vector, or an error row."""
    engine = engines.load(settings.source, settings.engine, settings.precision)
    groups: collections.defaultdict[str, list[ImageRef]] = collections.defaultdict(list)
    for ref in refs:
        groups[ref.uri if ref.is_record else ""].append(ref)
    for group in groups.values():
        by_id = {ref.id: ref for ref in group}
        batches = decode_shard(
            Shard(tuple(group)), settings.image, settings.batch_size, settings.examples
        )
        for batch in batches:
            answer = infer(batch, engine)
            for row, vector in zip(answer.rows, answer.features, strict=True):
                yield by_id[row.ref.id], row, vector, None
            for error in answer.errors:
                yield by_id[error.id], None, None, error


def _outdated(stored: StoredImage, row: ImageRow | None, error: ErrorRow | None) -> str | None:
    """Why an image cannot be compared with what is stored of it; None: it can be."""
    version = row.ref.version if row else error.version if error else ""
    if version != stored.version:
        return (
            f"{stored.uri} has changed since its row was computed (version was {stored.version}, "
            f"is {version}); --mode sync replaces it"
        )
    if error is None or was_read(error.stage, error.error_type):
        return None
    same = stored.error_type == error.error_type
    was = stored.error_type or "a row"
    return None if same else f"was {was}, is now {error.error_type}: {error.message}"


def _difference(
    stored: StoredImage,
    row: ImageRow | None,
    vector: np.ndarray | None,
    error: ErrorRow | None,
    precision: engines.Precision,
    result: Recomputed,
) -> str | None:
    """In what an image differs from what is stored of it; None: in nothing."""
    if error is not None:
        was = stored.error_type or "a row"
        same = stored.error_type == error.error_type
        return None if same else f"was {was}, is now {error.error_type}: {error.message}"
    assert row is not None and vector is not None
    if stored.vector is None:
        return f"was {stored.error_type}, is now a row; --retry_errors computes it again"
    if (row.width, row.height) != (stored.width, stored.height):
        return (
            f"was {stored.width}×{stored.height} pixels, is {row.width}×{row.height} although its "
            "version is the same"
        )
    if vector.shape != stored.vector.shape:
        return f"its vector had {len(stored.vector)} values, has {len(vector)} now"
    seen = parity.compare(vector[np.newaxis], stored.vector[np.newaxis])
    result.compared += 1
    result.relative_difference = max(result.relative_difference, seen.relative_difference)
    result.smallest_cosine = min(result.smallest_cosine, seen.smallest_cosine)
    return None if seen.is_within(precision) else f"another vector is computed now: {seen}"
