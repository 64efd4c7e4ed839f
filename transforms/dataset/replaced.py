"""Files of a snapshot, wherever later runs have put them.

A run that replaces parts moves them to `_previous/<generation>-<seconds>/`, named by the last
snapshot that listed them; who has opened one of the snapshots up to that one still reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.fs

from transforms import storage
from transforms.dataset.layout import PREVIOUS_DIRECTORY, own_directories, replaced_when


def replaced_in(generation: int, seconds: float) -> str:
    """Where the files of a snapshot go that are replaced at a time, as a path below the directory.

    >>> replaced_in(3, 1764180000.5)
    '_previous/3-1764180000'
    """
    return f"{PREVIOUS_DIRECTORY}/{generation}-{int(seconds)}"


class SnapshotFiles(pyarrow.fs.FileSystemHandler):
    """Reads files below a directory, and looks where they were moved if they are not there.

    Args:
      filesystem: that holds the directory.
      root: the directory, as a path of the filesystem.
      generation: of the snapshot that is read.
    """

    def __init__(self, filesystem: pyarrow.fs.FileSystem, root: str, generation: int):
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._generation = generation

    def get_type_name(self) -> str:
        """Of the filesystem below."""
        return f"snapshot+{self._filesystem.type_name}"

    def normalize_path(self, path: str) -> str:
        """As the filesystem has it."""
        return str(self._filesystem.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> list[pyarrow.fs.FileInfo]:
        """Under the name that was asked for, wherever it lies."""
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: pyarrow.fs.FileSelector) -> Any:
        """As the filesystem has it."""
        return self._filesystem.get_file_info(selector)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """For reading anywhere in it."""
        return self._opened(path, self._filesystem.open_input_file)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """For reading from its beginning."""
        return self._opened(path, self._filesystem.open_input_stream)

    def _opened(self, path: str, opening: Callable[[str], pa.NativeFile]) -> pa.NativeFile:
        try:
            return self._opened_there(path, opening)
        except FileNotFoundError:
            return self._opened_there(self._moved(path) or path, opening)

    def _opened_there(self, path: str, opening: Callable[[str], pa.NativeFile]) -> pa.NativeFile:
        if isinstance(self._filesystem, pyarrow.fs.LocalFileSystem):
            # A link would be followed, and a pipe waited for.
            storage.open_unlinked(path, own_directories(path)).close()
        return opening(path)

    def _info(self, path: str) -> pyarrow.fs.FileInfo:
        info = self._filesystem.get_file_info(path)
        moved = self._moved(path) if info.type == pyarrow.fs.FileType.NotFound else None
        if moved is None:
            return info
        there = self._filesystem.get_file_info(moved)
        return pyarrow.fs.FileInfo(path, there.type, size=there.size, mtime_ns=there.mtime_ns)

    def _moved(self, path: str) -> str | None:
        below = f"{self._root}/{PREVIOUS_DIRECTORY}"
        selector = pyarrow.fs.FileSelector(below, allow_not_found=True)
        found = [
            (replaced_when(info.base_name), info.path)
            for info in self._filesystem.get_file_info(selector)
        ]
        for when, directory in sorted((when, path) for when, path in found if when):
            there = f"{directory}/{path.removeprefix(self._root + '/')}"
            if when[0] >= self._generation and self._exists(there):
                return there
        return None

    def _exists(self, path: str) -> bool:
        return bool(self._filesystem.get_file_info(path).type == pyarrow.fs.FileType.File)

    def _refuse(self, *_: object, **__: object) -> Any:
        raise NotImplementedError("a snapshot is only read")

    copy_file = create_dir = delete_dir = delete_dir_contents = delete_file = _refuse
    delete_root_dir_contents = move = open_append_stream = open_output_stream = _refuse
