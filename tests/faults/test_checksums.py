"""Bytes that are not those which were written are seen, by the one checksum that can see them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.checks.parts import check_parts
from pipeline.checks.sample import Sample
from pipeline.output.directory import Output
from tests.helpers import simulated_nights, simulated_store, small_night
from transforms import storage
from transforms.dataset.snapshot import Snapshot, read_snapshot, write_snapshot


@pytest.fixture
def output(tmp_path: pathlib.Path) -> Output:
    with simulated_nights.patched():
        assert small_night.run(str(tmp_path / "out"), small_night.evening()) == 0
    return Output(str(tmp_path / "out")).refresh()


def problems(output: Output, state: Snapshot) -> list[str]:
    return [str(p) for p in check_parts(output, output.all_names(), state, Sample(0, 0)).problems]


def test_a_whole_part_that_another_has_put_there_is_told(output: Output) -> None:
    """The same rows in a sound file of other bytes: only the snapshot's checksum tells."""
    state = read_snapshot(output.directory)
    assert problems(output, state) == []
    path = output.path(state.parts[0])
    with pq.ParquetFile(path) as file:
        table, metadata = file.read(), file.metadata.metadata
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **(metadata or {})})
    pq.write_table(table, path, compression="none")
    assert "checksum" in " ".join(problems(output, state))


def test_a_flipped_byte_of_a_part_that_no_snapshot_names_is_told(output: Output) -> None:
    """Of an interrupted run: only the checksums of its pages tell."""
    name = output.all_names()[0]
    path = pathlib.Path(output.path(name))
    written, rows = path.read_bytes(), pq.read_table(path)

    def flipped(at: int) -> bool:
        """Whether a flipped byte there gives other vectors, and no error."""
        path.write_bytes(written[:at] + bytes([written[at] ^ 1]) + written[at + 1 :])
        try:
            read = pq.read_table(path)
            return read["id"] == rows["id"] and read["feature_vector"] != rows["feature_vector"]
        except (OSError, pa.ArrowException):
            return False

    assert any(map(flipped, range(len(written))))
    assert problems(output, Snapshot()) != []


@pytest.fixture(params=[None, simulated_store.s3, simulated_store.google])
def directory(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[str]:
    if request.param is None:
        yield str(tmp_path)
        return
    create: Callable = request.param
    with create() as store:
        yield store.uri + "/out"


def test_a_snapshot_tells_files_of_other_bytes_apart(directory: str) -> None:
    """Of the same size and name, on a disk and on each store."""
    path = storage.join(directory, "part")
    storage.write_text(path, "one")
    first = write_snapshot(directory, 1, ["part"])
    storage.delete([storage.join(directory, "_snapshot.json")])
    storage.write_text(path, "two")
    second = write_snapshot(directory, 1, ["part"])
    assert first.checksums["part"] == storage_checksum_of(directory, "one")
    assert second.checksums["part"] == storage_checksum_of(directory, "two")
    assert first.checksums["part"] != second.checksums["part"]


def storage_checksum_of(directory: str, text: str) -> str:
    path = storage.join(directory, "other")
    storage.write_text(path, text)
    return storage.checksum(path)
