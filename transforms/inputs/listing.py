"""Inputs to image refs: files, directories, globs and TFRecord files.

Everything that was asked for is accounted for: it becomes a ref, is counted as passed over, or is
an error that names it. A broken link or an unreadable directory becomes a ref, too, and then an
error row.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import posixpath
import re
from typing import Literal

from transforms import storage
from transforms.errors import Parameter, UserError
from transforms.inputs import files, tfrecord
from transforms.inputs.patterns import FoundFile, expand
from transforms.refs import ImageRef

InputFormat = Literal["auto", "files", "tfrecord"]

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
IMAGE_SUFFIXES = frozenset({*JPEG_SUFFIXES, ".png", ".gif", ".bmp", ".dib", ".webp"})

# Images, too, but of formats that are not decoded here.
UNDECODED_SUFFIXES = frozenset(
    [
        ".tif",
        ".tiff",
        ".heic",
        ".heif",
        ".hif",
        ".avif",
        ".jxl",
        ".jp2",
        ".j2k",
        ".jpx",
        ".psd",
        ".exr",
        ".hdr",
        ".tga",
        ".pcx",
        ".ppm",
        ".pgm",
        ".pnm",
        ".ico",
        ".svg",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".dng",
        ".orf",
        ".rw2",
        ".raf",
    ]
)

_TFRECORD_NAME = re.compile(r"\.tfrec(ords?)?(?=$|[-._])", re.IGNORECASE)

# What lies beside a TFRecord file and bears its name: where its records begin, as the readers of
# PyTorch and DALI want it, checksums, descriptions.
_COMPANION_SUFFIXES = frozenset(
    [".index", ".idx", ".crc", ".md5", ".sha1", ".sha256", ".json", ".txt", ".csv"]
)
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
    """

    refs: list[ImageRef]
    passed_over: collections.Counter[str]
    containers: list[str]
    only_jpegs: bool = False
    unlisted: list[str] = dataclasses.field(default_factory=list)


def list_images(
    inputs: list[str],
    input_format: InputFormat = "auto",
    id_key: str | None = None,
    label_from_parent: bool = False,
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

    Raises:
      UserError: an input matches nothing or nothing but empty TFRecord files; the message names it.
    """
    found, passed_over = _find(inputs, input_format)
    unlisted = [file.uri for file in found if file.unlisted]
    containers: list[FoundFile] = []
    refs: list[ImageRef] = []
    only_jpegs = True
    while found:  # there may be millions: none is kept once it is a ref
        file = found.popleft()
        if _is_container(file, input_format):
            containers.append(file)
        else:
            refs += files.list_refs(file, _label(file.uri, label_from_parent))
            only_jpegs = only_jpegs and file.uri.lower().endswith(JPEG_SUFFIXES)
    with concurrent.futures.ThreadPoolExecutor(_SCAN_THREADS) as pool:
        for records in pool.map(
            lambda file: tfrecord.list_refs(file, _label(file.uri, label_from_parent), id_key),
            containers,
        ):
            refs += records
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
    )


def is_tfrecord_name(name: str) -> bool:
    """Whether a file's name says that it is a TFRecord file.

    >>> is_tfrecord_name("train.tfrecord-00000-of-00010"), is_tfrecord_name("a.tfrec")
    (True, True)
    """
    return _has_tfrecord_name(name) and not _is_companion(name)


def _has_tfrecord_name(name: str) -> bool:
    return _TFRECORD_NAME.search(posixpath.basename(name)) is not None


def _is_companion(name: str) -> bool:
    """Whether a file lies beside a TFRecord file and tells of it."""
    suffix = posixpath.splitext(name)[1].lower()
    return suffix in _COMPANION_SUFFIXES and _has_tfrecord_name(name)


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
            others[file.path] = _hidden_kind(name)
        elif _is_companion(name) and input_format != "files" and file.path != itself:
            others[file.path] = suffix
        elif not file.in_directory or record or image or file.unlisted:
            wanted[file.path] = file
        else:
            others[file.path] = suffix or name
    return wanted, others


def _hidden_kind(name: str) -> str:
    """What a hidden file is counted as; `._*` is what macOS leaves beside a file."""
    stem, suffix = posixpath.splitext(name)
    return "._*" if name.startswith("._") else f".*{suffix.lower()}" if suffix else stem


def _is_container(file: FoundFile, input_format: InputFormat) -> bool:
    if file.problem or input_format == "files":
        return False
    return input_format == "tfrecord" or is_tfrecord_name(file.uri)


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
