"""A kind of input: image files, each of them an image."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from transforms import storage
from transforms.errors import ImageTooLargeError, InputChangedError
from transforms.inputs.encoded import EncodedImage, ListedFile, Read
from transforms.inputs.examples import ExampleSpec
from transforms.inputs.patterns import FoundFile
from transforms.refs import ImageRef, content_version, is_content_version
from transforms.storage.retries import retrying


def list_refs(file: FoundFile, label: str | None, id_key: str | None = None) -> ListedFile:
    """The one image of a file; `id_key` is for containers."""
    ref = ImageRef(
        id=file.uri,
        uri=file.uri,
        version=file.version,
        size=file.size,
        label=label,
        problem=file.problem,
    )
    return ListedFile([ref])


def open_reader(refs: Sequence[ImageRef], max_bytes: int, examples: ExampleSpec) -> FileReader:
    """Reads files; `examples` is for containers."""
    return FileReader(max_bytes)


class FileReader:
    """Each file is read by itself, again after transient errors."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes

    def start(self, refs: Sequence[ImageRef], then: Callable[[list[Read], float], None]) -> None:
        """Calls `then` at once."""
        reads: list[Read] = [
            functools.partial(retrying, functools.partial(_read, ref, self._max_bytes))
            for ref in refs
        ]
        then(reads, 0.0)

    def close(self) -> None:
        """Nothing is open between two files."""


def _read(ref: ImageRef, max_bytes: int) -> EncodedImage:
    data, version = storage.read(ref.uri, max_bytes + 1)
    size = ref.size if version in ("", ref.version) else None
    if storage.is_local(ref.uri):
        now = storage.find(ref.uri)
        if now and now.version != version:
            raise InputChangedError("the file changed while it was read")
        size = now.size if now else None
    if size is not None and len(data) < min(size, max_bytes):
        raise InputChangedError(f"the file ended after {len(data):,} of {size:,} bytes")
    if is_content_version(ref.version):
        version = content_version(data)
    if len(data) > max_bytes:
        raise ImageTooLargeError(f"more than max_file_bytes {max_bytes} bytes")
    return EncodedImage(data, version or ref.version)
