"""Which parts a finished run left, checked to be of one kind before a vector is read."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage
from transforms.dataset.columns import PartFormat
from transforms.dataset.layout import SNAPSHOT_FILE
from transforms.dataset.own_files import refuse_links
from transforms.dataset.part import FINGERPRINT_DEFAULTS, FOOTER_KEY, read_footer
from transforms.dataset.replaced import SnapshotFiles
from transforms.dataset.snapshot import Snapshot, arrow_filesystem, read_snapshot
from transforms.errors import UserError

# Footers are small: what an object store takes to answer is what costs.
_FOOTER_THREADS = 8

_VECTOR_COLUMNS = ("feature_vector", "logits")


@dataclasses.dataclass(frozen=True, slots=True)
class FinishedPart:
    """A part as it was when its footer was read.

    Attributes:
      name: of the file.
      rows: in it.
      digest: of the footer; another part under the same name has another one.
    """

    name: str
    rows: int
    digest: bytes


@dataclasses.dataclass(frozen=True, eq=False)
class FinishedParts:
    """The parts of one state of a dataset; all have the same columns and settings.

    Attributes:
      directory: of the dataset.
      generation: of the state.
      fingerprint: the settings that decided the numbers; {} where there is no part.
      schema: of the parts, without metadata.
      vector_column: `feature_vector` or `logits`.
      parts: in the order of their names, which is that of the rows.
    """

    directory: str
    generation: int
    fingerprint: dict[str, str]
    schema: pa.Schema
    vector_column: str
    parts: tuple[FinishedPart, ...] = dataclasses.field(repr=False)

    @property
    def width(self) -> int:
        """Length N of the vectors; 0 where there is no part to tell."""
        return int(self.schema.field(self.vector_column).type.list_size)

    @contextlib.contextmanager
    def opened(self, part: FinishedPart) -> Iterator[tuple[pa.NativeFile, pq.ParquetFile]]:
        """One of the parts for reading, also where a later run has moved it to.

        Raises:
          UserError: it has been deleted or replaced since, or is damaged.
        """
        path = storage.join(self.directory, part.name)
        again = "by a later run; call load_features again for the rows that are there now"
        try:
            with _open(self.directory, self.generation, part.name) as (file, parquet):
                if _digest(parquet.metadata) != part.digest:
                    raise UserError(f"was replaced {again}", subject=path)
                yield file, parquet
        except FileNotFoundError as error:
            raise UserError(f"was deleted {again}", subject=path) from error
        except pa.ArrowException as error:
            raise _damaged(path, error) from error
        except OSError as error:
            # A checksum that does not fit has no number, and Arrow's other words for a disk have.
            if error.errno is None and storage.is_local(path):
                raise _damaged(path, error) from error
            raise


def find_finished(directory: str) -> FinishedParts:
    """The parts that the last finished run left, whatever other runs do meanwhile.

    Args:
      directory: an output directory, local or `gs://`, `s3://`, `hdfs://`.

    Raises:
      UserError: no run has finished there; a part is damaged, a link, or of other columns or
        settings than the others.
      FileNotFoundError: a part is missing.
    """
    while True:
        snapshot = read_snapshot(directory)
        if snapshot.generation == 0:
            raise UserError(
                f"no run has finished here yet (there is no {SNAPSHOT_FILE}); embed images into "
                "this directory first",
                subject=directory,
            )
        refuse_links(directory)
        try:
            return _read_footers(directory, snapshot)
        except FileNotFoundError:  # deleted by a run that has finished since
            if read_snapshot(directory).generation == snapshot.generation:
                raise


@dataclasses.dataclass(frozen=True, slots=True)
class _Told:
    """What a footer tells, of which one is kept for all parts that tell the same."""

    part: FinishedPart
    fingerprint: dict[str, str]
    schema: pa.Schema


def _read_footers(directory: str, snapshot: Snapshot) -> FinishedParts:
    if not snapshot.parts:
        schema = PartFormat("feature_vector", width=0).schema()
        return FinishedParts(directory, snapshot.generation, {}, schema, "feature_vector", ())

    def told(name: str) -> _Told:
        return _read_one(directory, snapshot.generation, name)

    with concurrent.futures.ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        first, *others = pool.map(told, snapshot.parts)
    for other in others:
        if differing := _difference(first, other):
            raise UserError(
                f"{first.part.name} and {other.part.name} do not belong together: {differing}; "
                "move one of them away and run the pipeline again, or write all anew",
                subject=directory,
            )
    vector_column = _vector_column(storage.join(directory, first.part.name), first.schema)
    return FinishedParts(
        directory,
        snapshot.generation,
        first.fingerprint,
        first.schema,
        vector_column,
        tuple(one.part for one in (first, *others)),
    )


def _read_one(directory: str, generation: int, name: str) -> _Told:
    path = storage.join(directory, name)
    try:
        with _open(directory, generation, name) as (_, parquet):
            found = parquet.metadata
            schema = parquet.schema_arrow.remove_metadata()
        footer = read_footer(path, found.metadata or {})
    except (pa.ArrowException, UnicodeError) as error:
        raise _damaged(path, error) from error
    except ValueError as error:
        # The message begins with the path already.
        raise UserError(str(error).removeprefix(path).strip(), subject=path) from error
    if footer["rows"] != found.num_rows:
        raise _damaged(path, f"{found.num_rows} rows, its footer tells of {footer['rows']}")
    part = FinishedPart(name, found.num_rows, _digest(found))
    return _Told(part, footer["fingerprint"], schema)


@contextlib.contextmanager
def _open(
    directory: str, generation: int, name: str
) -> Iterator[tuple[pa.NativeFile, pq.ParquetFile]]:
    filesystem, root = arrow_filesystem(directory)
    files = SnapshotFiles(filesystem, root, generation)
    # From a store, the ranges of a part in few requests; from a disk, no more than what is decoded.
    ahead = not storage.is_local(directory)
    with (
        files.open_input_file(storage.join(root, name)) as file,
        pq.ParquetFile(file, pre_buffer=ahead, page_checksum_verification=True) as parquet,
    ):
        yield file, parquet


def _digest(metadata: pq.FileMetaData) -> bytes:
    told = (metadata.metadata or {}).get(FOOTER_KEY, b"")
    return hashlib.blake2b(told + b"%d" % metadata.num_rows, digest_size=16).digest()


def _damaged(path: str, cause: object) -> UserError:
    return UserError(f"is damaged: {cause}; delete it and run the pipeline again", subject=path)


def _difference(a: _Told, b: _Told) -> str:
    """In which setting or column they differ; "" if they do not."""
    was, now = FINGERPRINT_DEFAULTS | a.fingerprint, FINGERPRINT_DEFAULTS | b.fingerprint
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            return f"{name} is {was.get(name)} in the first and {now.get(name)} in the second"
    columns, others = ({f.name: f.type for f in one.schema} for one in (a, b))
    for name in sorted(columns.keys() | others.keys()):
        if columns.get(name) != others.get(name):
            types = f"{columns.get(name, 'not')} in the first and {others.get(name, 'not')}"
            return f"the column {name} is {types} in the second"
    return ""


def _vector_column(path: str, schema: pa.Schema) -> str:
    for name in _VECTOR_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            if pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32():
                return name
    raise UserError("has no column of vectors: feature_vector or logits", subject=path)
