"""The images that a run is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.options.values import InputOptions
from transforms.inputs.content_versions import with_content_versions
from transforms.inputs.listing import Listing, list_images
from transforms.refs import Unreadable


def lost_text(unreadable: Sequence[Unreadable]) -> str:
    """What cannot be read of the containers, on one line."""
    first = unreadable[0]
    lost = sum(container.bytes for container in unreadable)
    images = sum(container.images for container in unreadable)
    others = f" and {len(unreadable) - 1:,} more" if len(unreadable) > 1 else ""
    return (
        f"{lost:,} bytes in {first.uri}{others} cannot be read, about {images:,} "
        f"image{'' if images == 1 else 's'} by the size of the others"
    )


def list_inputs(options: InputOptions, max_file_bytes: int) -> Listing:
    """Lists what the options stand for.

    Args:
      options: what to read.
      max_file_bytes: what is larger is not read for its version or its id.

    Raises:
      UserError: an input matches nothing; the message names it.
    """
    listing = list_images(
        list(options.paths),
        options.format,
        options.id_key,
        options.label_from_parent,
        max_file_bytes,
    )
    if options.version == "sha256":
        refs = with_content_versions(listing.refs, max_file_bytes)
        listing = dataclasses.replace(listing, refs=refs)
    return listing
