"""Feature batches to parts: one Parquet file for each shard, committed in one atomic step.

The error rows of a shard lie in a file of their own, written before the part; the part's footer
names it. A run that was killed between the two leaves an error file that no part names: it does
not count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage
from transforms.batches import BatchPlace, FeatureBatch, StageSeconds
from transforms.dataset.columns import PartFormat, rows_to_table
from transforms.dataset.layout import ERRORS_DIRECTORY, part_path
from transforms.dataset.part import FOOTER_KEY, Part, read_part
from transforms.dataset.warned import WarnedImage, count_by_kind, warned_images, write_warnings
from transforms.errors import ErrorRow, error_table
from transforms.storage.retries import retrying

# Rows are gathered into row groups of this many: small ones cost readers more than they save.
ROW_GROUP_ROWS = 1024


class IncompleteShardError(RuntimeError):
    """A shard did not arrive whole and in order in one bundle, so it cannot be committed.

    This means that the runner did not fuse decoding, inference and commit into one stage.
    """


def open_parquet(local_path: str, schema: pa.Schema) -> pq.ParquetWriter:
    """The writer for a part: zstd, checksums of pages, dictionaries for all but the vectors."""
    return pq.ParquetWriter(
        local_path,
        schema,
        compression="zstd",
        use_dictionary=[f.name for f in schema if not pa.types.is_fixed_size_list(f.type)],
        write_page_checksum=True,
    )


def write_footer(parquet: pq.ParquetWriter, part: Part, program: str) -> None:
    """Puts into the footer what `read_part` reads, and the name and version of the writer."""
    footer = dataclasses.asdict(part) | {"program": program}
    parquet.add_key_value_metadata({FOOTER_KEY: json.dumps(footer)})


def write_errors(output: str, shard: str, table: pa.Table) -> str:
    """Writes a shard's error rows under a name that follows from them, and returns that name.

    Two workers on the same shard may see different errors (a timeout here, none there). So each
    writes its own file and the part that is committed names the right one.
    """
    content = json.dumps(table.to_pylist())
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    name = f"{shard}-{digest}.parquet"
    path = storage.join(output, ERRORS_DIRECTORY, name)
    storage.write_atomically(path, lambda local_path: pq.write_table(table, local_path))
    return name


@functools.cache
def _library_versions() -> dict[str, str]:
    """Of what computes here: not everything that changes a last bit is in the fingerprint."""
    versions = {}
    for name in ("tensorflow", "openvino"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


class PartWriter:
    """Gathers the batches of one shard, in order, and commits them as one part.

    Args:
      output: directory of the parts.
      part_format: the columns.
      place: of the shard's first batch.
      before_commit: called just before the part appears; it may raise.
    """

    def __init__(
        self,
        output: str,
        part_format: PartFormat,
        place: BatchPlace,
        before_commit: Callable[[], None] = lambda: None,
    ):
        self._before_commit = before_commit
        self._output = output
        self._format = part_format
        self._schema = part_format.schema()
        self._shard, self._shard_size = place.shard, place.shard_size
        self._pending = storage.PendingFile(part_path(output, self._shard))
        self._parquet: pq.ParquetWriter | None = None
        self._tables: list[pa.Table] = []
        self._rows = 0
        self._accounted = 0
        self._errors: list[ErrorRow] = []
        self._warned: list[WarnedImage] = []
        self._seconds = StageSeconds()

    @property
    def complete(self) -> bool:
        """Whether each ref of the shard is accounted for."""
        return self._accounted == self._shard_size

    def append(self, batch: FeatureBatch) -> None:
        """Adds the next batch of the shard.

        Raises:
          IncompleteShardError: it is not the next one.
        """
        place = batch.place
        if (place.shard, place.start) != (self._shard, self._accounted):
            raise IncompleteShardError(
                f"shard {self._shard} has {self._accounted} of {self._shard_size} refs, then came "
                f"refs {place.start}… of shard {place.shard}"
            )
        if len(batch.rows) + len(batch.errors) != place.size:
            raise IncompleteShardError(
                f"refs {place.start} to {place.start + place.size} of shard {place.shard} gave "
                f"{len(batch.rows)} rows and {len(batch.errors)} errors"
            )
        started = time.perf_counter()
        self._accounted += place.size
        self._errors.extend(batch.errors)
        self._warned.extend(warned_images(batch.rows))
        if batch.rows:
            self._tables.append(rows_to_table(batch, self._format, self._schema))
            self._rows += len(batch.rows)
        if sum(len(table) for table in self._tables) >= ROW_GROUP_ROWS:
            self._write_row_group()
        self._seconds += batch.seconds + StageSeconds(write=time.perf_counter() - started)

    def commit(self) -> Part:
        """Makes the error rows and then the part appear.

        Returns:
          the part that is there now: another's, where one was first.

        Raises:
          IncompleteShardError: refs are missing.
        """
        if not self.complete:
            raise IncompleteShardError(
                f"shard {self._shard} ended after {self._accounted} of {self._shard_size} refs"
            )
        started = time.perf_counter()
        self._write_row_group()
        errors_file = self._commit_errors()
        parquet = self._open()
        self._seconds += StageSeconds(write=time.perf_counter() - started)
        seconds = dataclasses.asdict(self._seconds)
        part = Part(
            shard=self._shard,
            rows=self._rows,
            errors=len(self._errors),
            errors_file=errors_file,
            seconds={stage: round(spent, 4) for stage, spent in seconds.items()},
            fingerprint=dict(self._format.fingerprint),
            versions=_library_versions(),
            warnings=count_by_kind(self._warned),
        )
        write_warnings(parquet, self._warned)
        write_footer(parquet, part, self._format.program)
        parquet.close()
        self._before_commit()
        path = part_path(self._output, self._shard)
        return part if self._pending.commit() else retrying(lambda: read_part(path))

    def discard(self) -> None:
        """Drops what was gathered; nothing appears."""
        try:
            if self._parquet:
                self._parquet.close()
        finally:
            self._pending.discard()

    def _open(self) -> pq.ParquetWriter:
        if self._parquet is None:
            self._parquet = open_parquet(self._pending.local_path, self._schema)
        return self._parquet

    def _write_row_group(self) -> None:
        if self._tables:
            table = pa.concat_tables(self._tables)
            self._open().write_table(table, row_group_size=len(table))
            self._tables = []

    def _commit_errors(self) -> str | None:
        if not self._errors:
            return None
        return write_errors(self._output, self._shard, error_table(self._errors))
