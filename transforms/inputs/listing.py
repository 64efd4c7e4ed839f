"""Inputs to image refs: files, directories, globs and TFRecord files.

Everything that was asked for is accounted for: it becomes a ref, is counted as passed over, or is
an error that names it. A broken link or an unreadable directory becomes a ref, too, and then an
error row.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import math
import os
import posixpath
from typing import Literal

from transforms import storage
from transforms.errors import Parameter, UserError
from transforms.inputs import files, tfrecord
from transforms.inputs.names import (
    IMAGE_SUFFIXES,
    JPEG_SUFFIXES,
    hidden_kind,
    is_companion,
    is_tfrecord_name,
)
from transforms.inputs.patterns import FoundFile, expand
from transforms.refs import ImageRef, Unreadable

InputFormat = Literal["auto", "files", "tfrecord"]

_SCAN_THREADS = 8


@dataclasses.dataclass(frozen=True)
class Listing:
    """What the inputs hold.

    Attributes:
      refs: one for each image, sorted by URI and record; ids are unique.
      passed_over: what is no image, counted by suffix: files in directories, hidden ones as
        `.*SUFFIX`, hidden directories, which were not looked into, as `NAME/`, and what lies beside
        TFRecord files.
      containers: the TFRecord files among the inputs, sorted.
      only_jpegs: whether by their names all images are JPEGs.
      unlisted: directories that cannot be looked into: what lies there is not to be seen now.
      unreadable: containers in which there are images that cannot be found; they are not to be
        seen now, either.
    """

    refs: list[ImageRef]
    passed_over: collections.Counter[str]
    containers: list[str]
    only_jpegs: bool = False
    unlisted: list[str] = dataclasses.field(default_factory=list)
    unreadable: list[Unreadable] = dataclasses.field(default_factory=list)


def list_images(
    inputs: list[str],
    input_format: InputFormat = "auto",
    id_key: str | None = None,
    label_from_parent: bool = False,
    max_file_bytes: int = 2**28,
) -> Listing:
    """Lists the images that `inputs` stand for.

    Args:
      inputs: files, directories (searched recursively for image suffixes and TFRecord files, but
        for hidden files and directories) and globs (everything that they match; `**` crosses
        directories).
      input_format: whether a file is an image ("files") or a TFRecord file ("tfrecord"); "auto"
        goes by `.tfrecord` or `.tfrec` in the name.
      id_key: feature of the Examples that names their images.
      label_from_parent: whether refs carry the name of their parent directory.
      max_file_bytes: of a record; a larger one is not read for its id.

    Raises:
      UserError: an input matches nothing or nothing but empty TFRecord files; the message names it.
    """
    found, passed_over = _find(inputs, input_format)
    unlisted = [file.uri for file in found if file.unlisted]
    containers: list[FoundFile] = []
    refs: list[ImageRef] = []
    lost: dict[str, int] = {}  # bytes by container
    only_jpegs = True
    while found:  # there may be millions: none is kept once it is a ref
        file = found.popleft()
        is_container = _is_container(file, input_format)
        if is_container and not file.problem:
            containers.append(file)
        else:
            refs += files.list_refs(file, _label(file.uri, label_from_parent)).refs
            if is_container and not file.unlisted:
                lost[file.uri] = 0
            only_jpegs = only_jpegs and file.uri.lower().endswith(JPEG_SUFFIXES)
    with concurrent.futures.ThreadPoolExecutor(_SCAN_THREADS) as pool:
        for listed in pool.map(
            lambda file: tfrecord.list_refs(
                file, _label(file.uri, label_from_parent), id_key, max_file_bytes
            ),
            containers,
        ):
            refs += listed.refs
            if listed.lost is not None:
                lost[listed.refs[0].uri] = listed.lost
    if not refs:
        raise UserError(
            "the TFRecord files hold no records", subject=Parameter("inputs", " ".join(inputs))
        )
    refs.sort(key=_by_place)
    return Listing(
        _with_unique_ids(refs),
        passed_over,
        sorted(file.uri for file in containers),
        only_jpegs and not containers,
        unlisted,
        _unreadable(lost, refs),
    )


def _find(
    inputs: list[str], input_format: InputFormat
) -> tuple[collections.deque[FoundFile], collections.Counter[str]]:
    """The files that the inputs stand for, each once, and how many were passed over by suffix."""
    found: dict[str, FoundFile] = {}
    passed_over: dict[str, str] = {}
    for pattern in inputs:
        wanted, others = _wanted(pattern, input_format)
        if not wanted:
            raise UserError(
                _nothing_found(pattern, input_format, others), subject=Parameter("inputs", pattern)
            )
        if found:
            found.update(wanted)
        else:
            found = wanted  # not a second one of millions
        passed_over.update(others)
    named = {storage.absolute(pattern).rstrip("/") for pattern in inputs}
    counts = collections.Counter(
        suffix for path, suffix in passed_over.items() if path not in found and path not in named
    )
    return collections.deque(found.values()), counts


def _wanted(pattern: str, input_format: InputFormat) -> tuple[dict[str, FoundFile], dict[str, str]]:
    """Files by path that one input stands for, and suffixes by path of those passed over."""
    wanted: dict[str, FoundFile] = {}
    others: dict[str, str] = {}
    itself = storage.absolute(pattern)
    for file in expand(pattern):
        name = posixpath.basename(file.uri)
        suffix = posixpath.splitext(name)[1].lower()
        record = is_tfrecord_name(name) and input_format != "files"
        image = suffix in IMAGE_SUFFIXES and input_format != "tfrecord"
        if file.hidden:
            others[file.path] = f"{name}/"
        elif name.startswith(".") and file.in_directory:
            others[file.path] = hidden_kind(name)
        elif is_companion(name) and input_format != "files" and file.path != itself:
            others[file.path] = suffix
        elif not file.in_directory or record or image or file.unlisted:
            wanted[file.path] = file
        else:
            others[file.path] = suffix or name
    return wanted, others


def _is_container(file: FoundFile, input_format: InputFormat) -> bool:
    if input_format == "files":
        return False
    return input_format == "tfrecord" or is_tfrecord_name(file.uri)


def _unreadable(lost: dict[str, int], refs: list[ImageRef]) -> list[Unreadable]:
    """How many images there may be in the bytes that were lost, by the size of those around."""
    if not lost:
        return []
    places = collections.Counter(ref.uri for ref in refs if ref.uri in lost and ref.size is None)
    sizes = [ref.size for ref in refs if ref.is_record and ref.size is not None]
    of_all = sum(sizes) / len(sizes) if sizes else math.inf
    found: collections.defaultdict[str, list[int]] = collections.defaultdict(list)
    for ref in refs:
        if ref.uri in lost and ref.is_record and ref.size:
            found[ref.uri].append(ref.size)
    unreadable = []
    for uri, size in sorted(lost.items()):
        mean = sum(found[uri]) / len(found[uri]) if found[uri] else of_all
        seen = max(1, places[uri])
        images = max(seen, round(size / max(mean, 1)))
        unreadable.append(Unreadable(uri, size, images, seen))
    return unreadable


def _label(uri: str, label_from_parent: bool) -> str | None:
    return posixpath.basename(posixpath.dirname(uri)) if label_from_parent else None


def _by_place(ref: ImageRef) -> tuple[str, int]:
    return ref.uri, -1 if ref.record_index is None else ref.record_index


def _with_unique_ids(refs: list[ImageRef]) -> list[ImageRef]:
    """The first good image of an id keeps it; the others are known by their place: error rows."""
    first: dict[str, ImageRef] = {}
    duplicates: list[int] = []
    for good in (True, False):
        for position, ref in enumerate(refs):
            if (ref.problem is None) == good and first.setdefault(ref.id, ref) is not ref:
                duplicates.append(position)
    for position in duplicates:
        ref = refs[position]
        other = first[ref.id]
        place = ref.uri if ref.record_index is None else f"{ref.uri}#{ref.record_index}"
        while place in first:
            place += "#duplicate"
        where = "" if other.record_index is None else f"record {other.record_index} of "
        problem = ref.problem or f"id {ref.id!r} is already {where}{other.uri}"
        refs[position] = first[place] = dataclasses.replace(ref, id=place, problem=problem)
    return refs


def _nothing_found(pattern: str, input_format: InputFormat, others: dict[str, str]) -> str:
    path = storage.absolute(pattern)
    if not others and not (storage.is_local(path) and os.path.isdir(path)):
        return "matches no file"
    kind = "TFRecord files" if input_format == "tfrecord" else "images"
    names = "*.tfrecord*" if input_format == "tfrecord" else " ".join(sorted(IMAGE_SUFFIXES))
    counts = collections.Counter(others.values()).most_common(5)
    seen = ", ".join(f"{count} {suffix}" for suffix, count in counts)
    return (
        f"no {kind} in this directory"
        + (f" (passed over: {seen})" if seen else "")
        + f"; by their names {kind} are {names}; a glob takes any name"
    )
