"""Files that appear under their final name in one step, or not at all.

Local: a temporary name in the same directory, then fsync, link or rename, and fsync of the
directory. On `gs://` and `s3://`: a local temporary file, then one request that creates the object.
Elsewhere: an upload under a temporary name, then a rename, as an upload that breaks off must not be
finalised under the final name.

Temporary names neither begin like a part nor end in .parquet: no reader's glob sees them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from transforms.storage import faults
from transforms.storage.changes import delete, sync_directory
from transforms.storage.clients import asking
from transforms.storage.object_stores import ObjectStore, store_of
from transforms.storage.paths import absolute, is_local, join
from transforms.storage.retries import WRITE_ATTEMPTS

TEMPORARY_PREFIX = "_tmp-"

# What a filesystem without hard links answers.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK})

# The client of HDFS tells in its text alone that a rename found something at the new name.
_HDFS_DOES_NOT_REPLACE = "Unable to rename"


class PendingFile:
    """A file that is being written, until `commit` or `replace` makes it appear.

    Attributes:
      local_path: where to write before that.
    """

    def __init__(self, path: str):
        self._path = absolute(path)
        self._store = store_of(path)
        directory, self._name = os.path.split(self._path)
        if is_local(path):
            os.makedirs(directory, exist_ok=True)
            self.local_path = os.path.join(directory, _temporary_name(self._name))
        else:
            handle, self.local_path = tempfile.mkstemp(prefix=TEMPORARY_PREFIX)
            os.close(handle)

    def commit(self) -> bool:
        """Makes the file appear under its final name, unless there is one already, which stays.

        On Azure, …, and on a local filesystem without hard links, two commits at the same moment
        may both get through: then the later one stays.

        Returns:
          whether it is this file that is there now: False where another writer was first.
        """
        return self._appear(replacing=False)

    def replace(self) -> None:
        """Makes the file appear under its final name, instead of what was there."""
        self._appear(replacing=True)

    def discard(self) -> None:
        """Removes what was written; nothing appears."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.local_path)

    def _appear(self, replacing: bool) -> bool:
        ours = True
        if is_local(self._path):
            with open(self.local_path, "rb") as file:
                os.fsync(file.fileno())
            faults.reached("before_rename")
            if replacing:
                os.replace(self.local_path, self._path)
            else:
                ours = _rename_to_new(self.local_path, self._path)
            sync_directory(os.path.dirname(self._path))
        else:
            faults.reached("before_rename")
            if self._store is None:
                ours = self._upload_and_rename(replacing)
            elif replacing:
                put = functools.partial(self._store.replace, self._path, self.local_path)
                asking(self._path, put, WRITE_ATTEMPTS)
            else:
                ours = _create(self._store, self._path, self.local_path)
        self.discard()
        return ours

    def _upload_and_rename(self, replacing: bool) -> bool:
        temporary = join(os.path.dirname(self._path), _temporary_name(self._name))
        before = FileSystems.exists(self._path)
        try:
            upload = functools.partial(_upload, self.local_path, temporary)
            asking(temporary, upload, WRITE_ATTEMPTS)
            rename = functools.partial(_rename, temporary, self._path, replacing)
            return asking(self._path, rename, WRITE_ATTEMPTS)
        finally:
            with contextlib.suppress(OSError):
                if not before or FileSystems.exists(self._path):  # else no other bytes are left
                    delete([temporary])


def write_atomically(path: str, write: Callable[[str], None]) -> None:
    """Calls `write(temporary local path)`, then makes the result appear as `path`."""
    pending = PendingFile(path)
    try:
        write(pending.local_path)
        pending.replace()
    except BaseException:
        pending.discard()
        raise


def write_text(path: str, text: str) -> None:
    """Writes a small UTF-8 text file atomically."""

    def write(local_path: str) -> None:
        with open(local_path, "w", encoding="utf-8") as file:
            file.write(text)

    write_atomically(path, write)


def _rename_to_new(temporary: str, path: str) -> bool:
    """Renames a local file to a name that nothing has; False: something has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network filesystem may have made the link, lost its answer and asked again.
        return os.path.samefile(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            return False
        os.rename(temporary, path)
    return True


def _create(store: ObjectStore, path: str, local_path: str) -> bool:
    """Creates an object; False: another writer's is there.

    A request whose answer was lost is asked again and refused for the first one: so the object
    says who wrote it.
    """
    writer = uuid.uuid4().hex

    def attempt() -> bool:
        if store.create(path, local_path, writer):
            return True
        found = store.look(path)
        if found is None:
            raise ConnectionAbortedError(f"{path} was deleted while it was written")
        return found.writer == writer

    return asking(path, attempt, WRITE_ATTEMPTS)


def _upload(local_path: str, temporary: str) -> None:
    with (
        open(local_path, "rb") as source,
        FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as target,
    ):
        shutil.copyfileobj(source, target, 2**20)


def _rename(temporary: str, path: str, replacing: bool) -> bool:
    """Renames a file on a filesystem of Beam's; False: something has the new name, and keeps it."""
    if not replacing and FileSystems.exists(path):
        return not FileSystems.exists(temporary)  # then an earlier attempt has renamed it
    try:
        FileSystems.rename([temporary], [path])
    except BeamIOError as error:
        if not FileSystems.exists(temporary):
            if FileSystems.exists(path):  # it was renamed, and the answer was lost
                return True
            raise
        if _HDFS_DOES_NOT_REPLACE not in str(error) or not FileSystems.exists(path):
            raise
        if not replacing:
            return False
        FileSystems.delete([path])
        FileSystems.rename([temporary], [path])
    return True


def _temporary_name(name: str) -> str:
    return f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-{name}.tmp"
