"""The dataset as the last finished run left it: the parts that `_snapshot.json` lists.

A run adds parts beside those that are there, and a synchronising one replaces some. Who reads the
directory while a run works may see part of a change; who goes by the snapshot, as `load_features`
does, sees the state before the run or the one after it. Between runs both are the same.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs

from transforms import storage
from transforms.dataset.layout import SNAPSHOT_FILE, is_of_dataset
from transforms.dataset.own_files import file_checksum, refuse_links
from transforms.dataset.replaced import SnapshotFiles
from transforms.dataset.stored_json import check_kinds, is_count, is_text, object_of, parse_object
from transforms.errors import UserError
from transforms.storage.conditional_writes import StoredText, read_text, write_if_unchanged

_CHECKSUM_THREADS = 8

_HOW = "delete it, and the next run writes it anew"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The files of one state of the dataset.

    Attributes:
      generation: counts the finished runs that changed something; 0 before the first.
      checksums: by path below the directory, of parts and of the error files that they name.
    """

    generation: int = 0
    checksums: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def parts(self) -> list[str]:
        """Names of the parts, sorted."""
        return sorted(name for name in self.checksums if "/" not in name)


def read_snapshot(directory: str) -> Snapshot:
    """The directory's snapshot; that of generation 0 if no run has finished yet.

    Raises:
      UserError: `_snapshot.json` is damaged; the message names it.
    """
    return _parse(directory, _read(directory))


def _read(directory: str) -> StoredText | None:
    path = storage.join(directory, SNAPSHOT_FILE)
    try:
        return read_text(path)
    except storage.UnusableFileError as error:
        raise UserError(f"{error.problem}; {_HOW}", subject=path) from error


def _parse(directory: str, stored: StoredText | None) -> Snapshot:
    if stored is None:
        return Snapshot()
    try:
        found = parse_object(stored.text)
        check_kinds(found, {"generation": is_count, "checksums": object_of(is_text)})
        strange = [name for name in found["checksums"] if not is_of_dataset(name)]
        if strange:
            raise ValueError(f"it names {strange[0]!r}, which is no file of an output")
        return Snapshot(found["generation"], found["checksums"])
    except ValueError as error:
        path = storage.join(directory, SNAPSHOT_FILE)
        raise UserError(f"is damaged ({error}); {_HOW}", subject=path) from error


def write_snapshot(
    directory: str,
    generation: int,
    paths: Sequence[str],
    look: Callable[[], None] = lambda: None,
) -> Snapshot:
    """Makes `paths`, below the directory, its state in one atomic step.

    Files of the snapshot before that are not newer than it keep the checksum that was taken then.

    Args:
      directory: of the dataset.
      generation: of the new snapshot.
      paths: of its files.
      look: raises if somebody else may write here by now; called after the snapshot was read that
        this one replaces, as it only replaces that one.

    Raises:
      RuntimeError: somebody else has written one since this call began.
    """
    seen = _read(directory)
    look()
    known = _checksums_that_hold(directory, _parse(directory, seen))

    def checksum(name: str) -> str:
        return known.get(name) or file_checksum(storage.join(directory, name))

    names = sorted(paths)
    with concurrent.futures.ThreadPoolExecutor(_CHECKSUM_THREADS) as pool:
        checksums = dict(zip(names, pool.map(checksum, names), strict=True))
    snapshot = Snapshot(generation, checksums)
    text = json.dumps(dataclasses.asdict(snapshot), indent=1) + "\n"
    path = storage.join(directory, SNAPSHOT_FILE)
    if text != (seen and seen.text) and write_if_unchanged(path, text, seen) is None:
        raise RuntimeError(f"{path}: another run has written it meanwhile; nothing was changed")
    return snapshot


def update_snapshot(
    directory: str, paths: Sequence[str], look: Callable[[], None] = lambda: None
) -> Snapshot:
    """Makes `paths` the state of the directory if it is another one, by names or by content.

    Args:
      directory, paths, look: as in `write_snapshot`.
    """
    before = read_snapshot(directory)
    holds = _checksums_that_hold(directory, before)
    if before.generation and holds.keys() == before.checksums.keys() == set(paths):
        return before
    return write_snapshot(directory, before.generation + 1, paths, look)


def _checksums_that_hold(directory: str, snapshot: Snapshot) -> dict[str, str]:
    """Of files that were not written since the snapshot was."""
    files = storage.list_files(directory)
    if SNAPSHOT_FILE not in files:
        return {}
    written = files[SNAPSHOT_FILE].modified
    return {
        name: checksum
        for name, checksum in snapshot.checksums.items()
        if name in files and files[name].modified <= written
    }


def open_features(directory: str) -> ds.Dataset:
    """The dataset of the last finished run, to be scanned with filters and columns.

    A later run may replace files of this state: they stay readable here as long as it keeps what
    it replaces; a scan then fails, and never mixes two states.

    Args:
      directory: an output directory, local or `gs://`, `s3://`, `hdfs://`.

    Raises:
      FileNotFoundError: no run has finished in the directory yet.
    """
    return _dataset(directory, _finished_snapshot(directory), follows=True)


def load_features(directory: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of the last finished run, whatever other runs do meanwhile.

    Args:
      directory: an output directory, local or `gs://`, `s3://`, `hdfs://`.
      columns: which ones; None for all.

    Raises:
      FileNotFoundError: no run has finished in the directory yet, or a part is missing.
      UserError: something else than a file lies there under the name of one.
    """
    while True:
        snapshot = _finished_snapshot(directory)
        refuse_links(directory)
        try:
            return _dataset(directory, snapshot, follows=False).to_table(columns and list(columns))
        except FileNotFoundError:  # deleted by a run that has finished since
            if read_snapshot(directory).generation == snapshot.generation:
                raise


def arrow_filesystem(directory: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Arrow's own filesystem for an output, without Python in it, and the directory's path there.

    Args:
      directory: local or `gs://`, `s3://`, `hdfs://`.
    """
    if storage.is_local(directory):
        return pyarrow.fs.LocalFileSystem(), storage.absolute(directory)
    filesystem, root = pyarrow.fs.FileSystem.from_uri(directory)
    return filesystem, root


def _finished_snapshot(directory: str) -> Snapshot:
    snapshot = read_snapshot(directory)
    if snapshot.generation == 0:
        raise FileNotFoundError(f"{directory}: no run has finished here yet ({SNAPSHOT_FILE})")
    return snapshot


def _dataset(directory: str, snapshot: Snapshot, follows: bool) -> ds.Dataset:
    """The parts of a snapshot; if `follows`, also where a later run has moved them to.

    Arrow's threads call Python then, and may end the process with an abort where it ends meanwhile.
    """
    if not snapshot.parts:
        return ds.dataset(pa.table({}))
    filesystem, root = arrow_filesystem(directory)
    paths = [storage.join(root, name) for name in snapshot.parts]
    if follows:
        handler = SnapshotFiles(filesystem, root, snapshot.generation)
        filesystem = pyarrow.fs.PyFileSystem(handler)
    return ds.dataset(paths, filesystem=filesystem, format="parquet")
