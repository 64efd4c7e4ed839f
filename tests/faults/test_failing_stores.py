"""Stores that fail at one request, whichever: the state before or the one after, never less.

Every request of a commit, of a small file, of a move and of a deletion is answered with 503 in
turn: once before it is carried out, once after it, and once with the store away from then on.
"""

from __future__ import annotations

import functools
import io
import pathlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.helpers import object_stores
from tests.helpers.failing_proxy import FailingProxy
from tests.helpers.object_stores import Store
from transforms import storage
from transforms.batches import BatchPlace, FeatureBatch, ImageRow, StageSeconds
from transforms.dataset.columns import PartFormat
from transforms.dataset.layout import part_path
from transforms.dataset.part import Part, read_part
from transforms.dataset.writer import PartWriter
from transforms.errors import CorruptImageError, error_row
from transforms.refs import ImageRef
from transforms.storage import retries

SHARD = "0123456789abcdef"
RACES = 100
AWAY = 99  # more requests than any step makes

Files = dict[str, bytes]


@pytest.fixture(scope="module", params=[object_stores.gcs, object_stores.s3])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with request.param() as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(retries, "FIRST_WAIT_SECONDS", 0)
        yield store


@pytest.fixture
def proxy(store: Store) -> FailingProxy:
    assert store.proxy is not None
    return store.proxy


def writer_of(output: str, bad: int, writer: str = "") -> PartWriter:
    """A writer of four refs, of which the first ones are error rows."""
    refs = [ImageRef(f"{number}.png", f"{number}.png", "1") for number in range(4)]
    batch = FeatureBatch(
        features=np.ones((4 - bad, 3), np.float32),
        rows=tuple(ImageRow(ref, 1, 1, ()) for ref in refs[bad:]),
        errors=tuple(error_row(ref, "decode", CorruptImageError("cut")) for ref in refs[:bad]),
        place=BatchPlace(SHARD, 4, 0, 4),
        seconds=StageSeconds(),
    )
    part_format = PartFormat("feature_vector", 3, fingerprint=(("writer", writer),))
    pending = PartWriter(output, part_format, batch.place)
    pending.append(batch)
    return pending


def read(path: str) -> bytes:
    return storage.read(path, 2**20)[0]


def files_in(directory: str) -> Files:
    return {name: read(storage.join(directory, name)) for name in storage.list_files(directory)}


def check_part(directory: str, part: Part) -> None:
    """The part is there with its rows and its error rows."""
    assert read_part(part_path(directory, SHARD)) == part
    assert part.rows + part.errors == 4
    rows = pq.read_table(io.BytesIO(read(part_path(directory, SHARD))))
    errors = pq.read_table(io.BytesIO(read(f"{directory}/_errors/{part.errors_file}")))
    assert (len(rows), len(errors)) == (part.rows, part.errors)


def each_failure(
    proxy: FailingProxy, step: Callable[[str], object], prepared: Callable[[], str]
) -> Iterator[tuple[str, bool]]:
    """Carries the step out with each of its requests failing in each way.

    Args:
      proxy: before the store.
      step: what is done in a directory.
      prepared: makes the directory as it is before.

    Yields:
      the directory as it was left, and whether the step said that it was done.
    """
    directory = prepared()
    proxy.fail(0)
    step(directory)
    requests = len(proxy.requests)
    assert requests
    yield directory, True
    for number in range(1, requests + 1):
        for passed_on in (False, True):
            for times in (1, AWAY):
                directory = prepared()
                proxy.fail(number, passed_on, times)
                done = True
                try:
                    step(directory)
                except OSError:
                    done = False
                assert proxy.failed
                assert done or times == AWAY  # one failure is overcome
                proxy.fail(0)
                yield directory, done


@pytest.fixture
def prepared(store: Store, tmp_path: pathlib.Path) -> Callable[[Files], str]:
    """Makes a new directory with these files, and gives its path."""
    counter = iter(range(10**6))

    def prepare(files: Files) -> str:
        directory = storage.join(store.uri, tmp_path.name, str(next(counter)))
        for name, content in files.items():
            storage.write_text(storage.join(directory, name), content.decode())
        return directory

    return prepare


def test_a_part_with_error_rows(proxy: FailingProxy, prepared: Callable[[Files], str]) -> None:
    def step(directory: str) -> None:
        check_counts(writer_of(directory, bad=1).commit())

    def check_counts(part: Part) -> None:
        assert (part.rows, part.errors) == (3, 1)

    for directory, done in each_failure(proxy, step, functools.partial(prepared, {})):
        assert len(storage.list_names(storage.join(directory, "_errors"))) <= 1
        if done:
            check_part(directory, read_part(part_path(directory, SHARD)))
        again = writer_of(directory, bad=1).commit()
        check_part(directory, again)
        assert set(files_in(directory)) == {f"part-{SHARD}.parquet", f"_errors/{again.errors_file}"}


def test_a_part_that_is_there_is_never_replaced(
    proxy: FailingProxy, prepared: Callable[[Files], str]
) -> None:
    """Whatever fails while a worker that comes late commits its own, with other errors."""
    first: dict[str, bytes] = {}

    def prepare() -> str:
        directory = prepared({})
        writer_of(directory, bad=1, writer="first").commit()
        first[directory] = read(part_path(directory, SHARD))
        return directory

    def step(directory: str) -> None:
        part = writer_of(directory, bad=2, writer="late").commit()
        assert (part.rows, part.errors, part.fingerprint) == (3, 1, {"writer": "first"})

    for directory, _ in each_failure(proxy, step, prepare):
        assert read(part_path(directory, SHARD)) == first[directory]


def test_a_small_file_that_is_replaced(
    proxy: FailingProxy, prepared: Callable[[Files], str]
) -> None:
    before, after = {"_snapshot.json": b"before"}, {"_snapshot.json": b"after"}

    def step(directory: str) -> None:
        storage.write_text(storage.join(directory, "_snapshot.json"), "after")

    for directory, done in each_failure(proxy, step, functools.partial(prepared, before)):
        assert files_in(directory) in ([after] if done else [before, after])
        step(directory)
        assert files_in(directory) == after


def test_a_move_over_what_was_there(proxy: FailingProxy, prepared: Callable[[Files], str]) -> None:
    before = {"_staging/new": b"new", "_staging/also": b"also", "new": b"old"}
    after = {"new": b"new", "also": b"also"}

    def step(directory: str) -> None:
        pairs = [(f"_staging/{name}", name) for name in after]
        storage.move([(f"{directory}/{old}", f"{directory}/{new}") for old, new in pairs])

    for directory, done in each_failure(proxy, step, functools.partial(prepared, before)):
        found = files_in(directory)
        assert found == after or not done
        for name, content in after.items():  # here, there or in both places
            assert content in (found.get(name), found.get(f"_staging/{name}"))
        assert found.get("new") in (b"old", b"new")
        step(directory)
        assert files_in(directory) == after


def test_what_is_nowhere_is_not_moved_in_silence(prepared: Callable[[Files], str]) -> None:
    directory = prepared({})
    with pytest.raises(FileNotFoundError, match="_staging/new"):
        storage.move([(f"{directory}/_staging/new", f"{directory}/new")])


def test_a_deletion_of_files_and_directories(
    proxy: FailingProxy, prepared: Callable[[Files], str]
) -> None:
    before = {"a": b"a", "_staging/b": b"b", "_staging/_errors/c": b"c", "stays": b"d"}
    after = {"stays": b"d"}

    def step(directory: str) -> None:
        for name in ("a", "_staging", "missing"):
            storage.delete([storage.join(directory, name)])

    for directory, done in each_failure(proxy, step, functools.partial(prepared, before)):
        found = files_in(directory)
        assert after.items() <= found.items() <= before.items()
        assert found == after or not done
        step(directory)
        assert files_in(directory) == after


def test_of_two_writers_of_a_part_one_wins_and_both_know_its_counts(
    prepared: Callable[[Files], str],
) -> None:
    """A hundred times: the bytes are the winner's, and who lost tells of the winner's part."""
    output = prepared({})
    wins = {"1": 0, "2": 0}
    for _ in range(RACES):
        writers = {bad: writer_of(output, int(bad), writer=bad) for bad in wins}
        start = threading.Barrier(2)
        told: dict[str, Part] = {}

        def commit(bad: str, writer: PartWriter, start=start, told=told) -> None:
            start.wait()
            told[bad] = writer.commit()

        threads = [threading.Thread(target=commit, args=pair) for pair in writers.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert told["1"] == told["2"]
        winner = told["1"].fingerprint["writer"]
        assert told["1"].errors == int(winner)
        check_part(output, told["1"])
        wins[winner] += 1
        storage.delete([part_path(output, SHARD)])
    assert sum(wins.values()) == RACES
