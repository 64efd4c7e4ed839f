"""An object store in the memory of this process: no server, and it can be filled up."""

from __future__ import annotations

import errno
import io
import time
from collections.abc import Iterator
from typing import ClassVar

from apache_beam.io import filesystemio
from apache_beam.io.filesystem import BeamIOError, CompressedFile, FileMetadata, FileSystem


class ObjectStore(FileSystem):
    """A store such as S3 in memory: no directories, and an object appears when it is closed.

    It reads and writes through the streams that Beam uses for S3, Azure and HDFS.

    Attributes:
      objects: path to content and time of change.
      room: bytes that can still be uploaded before the store fails; None for no end.
    """

    objects: ClassVar[dict[str, tuple[bytes, float]]] = {}
    room: ClassVar[int | None] = None

    @classmethod
    def scheme(cls) -> str:
        return "testfs"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        pass

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path in sorted(self.objects):
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def create(self, path, mime_type="", compression_type="auto"):
        stream = io.BufferedWriter(filesystemio.UploaderStream(_Upload(path)))
        return _maybe_compressed(stream, self._get_compression_type(path, compression_type))

    def open(self, path, mime_type="", compression_type="auto"):
        stream = io.BufferedReader(filesystemio.DownloaderStream(_Download(path)))
        return _maybe_compressed(stream, self._get_compression_type(path, compression_type))

    def copy(self, source_file_names, destination_file_names) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            self.objects[target] = self.objects[source]

    def rename(self, source_file_names, destination_file_names) -> None:
        self.copy(source_file_names, destination_file_names)
        self.delete(source_file_names)

    def exists(self, path: str) -> bool:
        return path in self.objects

    def size(self, path: str) -> int:
        return self.metadata(path).size_in_bytes

    def last_updated(self, path: str) -> float:
        return self.metadata(path).last_updated_in_seconds

    def metadata(self, path: str) -> FileMetadata:
        if path not in self.objects:
            raise BeamIOError(f"no object {path}")
        content, changed = self.objects[path]
        return FileMetadata(path, len(content), changed)

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            if path not in self.objects:
                raise BeamIOError(f"no object {path}")
            del self.objects[path]


class _Upload(filesystemio.Uploader):
    def __init__(self, path: str):
        self._path = path
        self._parts: list[bytes] = []

    def put(self, data: memoryview) -> None:
        if ObjectStore.room is not None:
            ObjectStore.room -= len(data)
            if ObjectStore.room < 0:
                raise OSError(errno.EDQUOT, "the bucket is full")
        self._parts.append(bytes(data))

    def finish(self) -> None:
        ObjectStore.objects[self._path] = (b"".join(self._parts), time.time())


class _Download(filesystemio.Downloader):
    def __init__(self, path: str):
        if path not in ObjectStore.objects:
            raise BeamIOError(f"no object {path}")
        self._content, _ = ObjectStore.objects[path]

    @property
    def size(self) -> int:
        return len(self._content)

    def get_range(self, start: int, end: int) -> bytes:
        return self._content[start:end]


def _maybe_compressed(stream, compression_type: str):
    return stream if compression_type == "uncompressed" else CompressedFile(stream)
