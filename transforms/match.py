"""Inputs to image refs: files, directories, globs and TFRecord files, on any of Beam's filesystems.

Everything that was asked for is accounted for: it becomes a ref, is counted as passed over, or is
an error that names it. A broken link or an unreadable directory becomes a ref, too, and then an
error row.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import glob
import os
import posixpath
import re
import stat
from collections.abc import Iterator
from typing import Literal

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from transforms import storage, tfrecords
from transforms.errors import UserError
from transforms.refs import ImageRef

InputFormat = Literal["auto", "files", "tfrecord"]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".webp"}
)

_TFRECORD_NAME = re.compile(r"\.tfrecords?(?=$|[-._])", re.IGNORECASE)
_SCAN_THREADS = 8


@dataclasses.dataclass(frozen=True)
class Listing:
    """What the inputs hold.

    Attributes:
      refs: one for each image, sorted by URI and record; ids are unique.
      passed_over: files in directories that are no images, counted by suffix.
      containers: the TFRecord files among the inputs, sorted.
    """

    refs: list[ImageRef]
    passed_over: collections.Counter[str]
    containers: list[str]


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    uri: str
    size: int | None = None
    version: str = ""
    problem: str | None = None


def list_images(
    inputs: list[str],
    input_format: InputFormat = "auto",
    id_key: str | None = None,
    label_from_parent: bool = False,
) -> Listing:
    """Lists the images that `inputs` stand for.

    Args:
      inputs: files, directories (searched recursively for image suffixes and TFRecord files) and
        globs (everything that they match; `**` crosses directories).
      input_format: whether a file is an image ("files") or a TFRecord file ("tfrecord"); "auto"
        goes by `.tfrecord` in the name.
      id_key: feature of the Examples that names their images.
      label_from_parent: whether refs carry the name of their parent directory.

    Raises:
      UserError: an input matches nothing; the message names it.
    """
    passed_over: collections.Counter[str] = collections.Counter()
    files: dict[str, _File] = {}
    for pattern in inputs:
        found = {file.uri: file for file in _expand(pattern, input_format, passed_over)}
        if not found:
            raise UserError(_nothing_found(pattern, passed_over))
        files.update(found)
    ordered = [files[uri] for uri in sorted(files)]
    containers = [file for file in ordered if _is_container(file, input_format)]
    in_container = {file.uri for file in containers}
    refs = [_file_ref(file, label_from_parent) for file in ordered if file.uri not in in_container]
    with concurrent.futures.ThreadPoolExecutor(_SCAN_THREADS) as pool:
        scans = pool.map(lambda file: _record_refs(file, id_key, label_from_parent), containers)
        for container_refs in scans:
            refs.extend(container_refs)
    if id_key:
        refs = list(_without_duplicate_ids(refs))
    return Listing(refs, passed_over, [file.uri for file in containers])


def is_tfrecord_name(name: str) -> bool:
    """Whether a file's name says that it is a TFRecord file.

    >>> is_tfrecord_name("train.tfrecord-00000-of-00010"), is_tfrecord_name("a.tfrecords.gz")
    (True, True)
    """
    return _TFRECORD_NAME.search(posixpath.basename(name)) is not None


def _expand(
    pattern: str, input_format: InputFormat, passed_over: collections.Counter[str]
) -> Iterator[_File]:
    """The files that one input stands for."""
    path = storage.absolute(pattern)
    if storage.is_local(path):
        if os.path.isdir(path):
            files = _walk(path)
            yield from _wanted(files, input_format, passed_over)
        elif os.path.lexists(path):
            yield _local_file(path)
        else:
            matches = glob.iglob(path, recursive=True)
            yield from (_local_file(match) for match in matches if not os.path.isdir(match))
        return
    try:
        if not glob.has_magic(path) and not path.endswith("/"):
            found = _match(path)
            if found:
                yield from found
                return
        if glob.has_magic(path):
            yield from _match(path)
        else:
            yield from _wanted(_match(path.rstrip("/") + "/**"), input_format, passed_over)
    except (BeamIOError, ValueError) as error:
        raise UserError(f"--input {pattern}: cannot be listed: {error}") from error


def _match(pattern: str) -> list[_File]:
    [result] = FileSystems.match([pattern])
    return [
        _File(meta.path, meta.size_in_bytes, f"{meta.size_in_bytes}-{meta.last_updated_in_seconds}")
        for meta in result.metadata_list
        if not meta.path.endswith("/")
    ]


def _wanted(
    files: Iterator[_File] | list[_File],
    input_format: InputFormat,
    passed_over: collections.Counter[str],
) -> Iterator[_File]:
    """Of the files in a directory, those that are images or records by their names."""
    for file in files:
        name = posixpath.basename(file.uri)
        suffix = posixpath.splitext(name)[1].lower()
        record = is_tfrecord_name(name) and input_format != "files"
        image = suffix in IMAGE_SUFFIXES and input_format != "tfrecord"
        if record or image or file.problem:
            yield file
        else:
            passed_over[suffix or name] += 1


def _walk(directory: str) -> Iterator[_File]:
    """All files below a local directory; links are followed, but no directory is entered twice."""
    entered: set[tuple[int, int]] = set()
    pending = [directory]
    while pending:
        path = pending.pop()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir():
                        pending.append(entry.path)
                    else:
                        yield _local_file(entry.path, entry)
        except OSError as error:
            yield _File(path, problem=f"the directory cannot be listed: {error.strerror}")


def _local_file(path: str, entry: os.DirEntry[str] | None = None) -> _File:
    if not _is_utf8(path):
        readable = os.fsencode(path).decode("utf-8", "backslashreplace")
        return _File(readable, problem="the file's name is not UTF-8; rename it")
    try:
        status = entry.stat() if entry else os.stat(path)
    except OSError:
        return _File(path)  # reading it says what is wrong
    if not stat.S_ISREG(status.st_mode):
        return _File(path, problem="not a regular file")
    return _File(path, status.st_size, f"{status.st_size}-{status.st_mtime_ns}")


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_container(file: _File, input_format: InputFormat) -> bool:
    if file.problem or input_format == "files":
        return False
    return input_format == "tfrecord" or is_tfrecord_name(file.uri)


def _label(uri: str, label_from_parent: bool) -> str | None:
    return posixpath.basename(posixpath.dirname(uri)) if label_from_parent else None


def _file_ref(file: _File, label_from_parent: bool) -> ImageRef:
    return ImageRef(
        id=file.uri,
        uri=file.uri,
        version=file.version,
        size=file.size,
        label=_label(file.uri, label_from_parent),
        problem=file.problem,
    )


def _record_refs(file: _File, id_key: str | None, label_from_parent: bool) -> list[ImageRef]:
    label = _label(file.uri, label_from_parent)
    refs: list[ImageRef] = []
    try:
        if id_key:
            records = tfrecords.example_ids(file.uri, id_key)
        else:
            records = ((offset, length, "") for offset, length in tfrecords.scan(file.uri))
        for index, (offset, length, value) in enumerate(records):
            place = f"{file.uri}#{index}"
            problem = None
            if value is None and length is not None:
                problem = f"record {index} has no single UTF-8 or int64 id in feature {id_key!r}"
            refs.append(
                ImageRef(
                    value or place, file.uri, file.version, length, index, offset, label, problem
                )
            )
    except OSError:
        refs.append(_file_ref(file, label_from_parent))  # reading it says what is wrong
    return refs


def _without_duplicate_ids(refs: list[ImageRef]) -> Iterator[ImageRef]:
    """The first image of an id keeps it; the others are known by their place and become errors."""
    first: dict[str, ImageRef] = {}
    for ref in refs:
        other = first.setdefault(ref.id, ref)
        if other is ref:
            yield ref
            continue
        yield dataclasses.replace(
            ref,
            id=f"{ref.uri}#{ref.record_index}",
            problem=f"id {ref.id!r} is already record {other.record_index} of {other.uri}",
        )


def _nothing_found(pattern: str, passed_over: collections.Counter[str]) -> str:
    path = storage.absolute(pattern)
    if storage.is_local(path) and os.path.isdir(path):
        seen = ", ".join(f"{count} {suffix}" for suffix, count in passed_over.most_common(5))
        return (
            f"--input {pattern}: no images in this directory"
            + (f" (passed over: {seen})" if seen else "")
            + f"; images are {' '.join(sorted(IMAGE_SUFFIXES))}; a glob takes any name"
        )
    return f"--input {pattern}: matches no file"
