"""Each request that has a condition is refused by its store where the condition does not hold."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.helpers import simulated_store
from tests.helpers.simulated_store import SimulatedStore
from transforms import storage
from transforms.storage import conditional_writes
from transforms.storage.object_stores import ObjectStore, store_of


@pytest.fixture(params=[simulated_store.s3, simulated_store.google])
def simulated(request: pytest.FixtureRequest) -> Iterator[SimulatedStore]:
    with request.param() as store:
        yield store


@pytest.fixture
def store(simulated: SimulatedStore) -> ObjectStore:
    found = store_of(simulated.uri + "/")
    assert found is not None
    return found


@pytest.fixture
def path(simulated: SimulatedStore) -> str:
    """Of an object that holds "first"."""
    path = f"{simulated.uri}/object"
    storage.write_text(path, "first")
    return path


def content(path: str) -> str:
    with storage.open_input(path) as file:
        return file.read().decode()


def test_what_is_there_is_not_created(
    store: ObjectStore, path: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "file").write_text("second")
    assert not store.create(path, str(tmp_path / "file"), "writer")
    assert content(path) == "first"
    assert store.create(path + "-new", str(tmp_path / "file"), "writer")
    found = store.look(path + "-new")
    assert found is not None
    assert found.writer == "writer"


def test_what_was_replaced_is_not_read_as_what_it_was(store: ObjectStore, path: str) -> None:
    found = store.look(path)
    assert found is not None
    assert store.read_range(found, 1, 3) == b"ir"
    storage.write_text(path, "other")
    assert store.read_range(found, 1, 3) is None


def test_what_was_replaced_is_not_copied(store: ObjectStore, path: str) -> None:
    found = store.look(path)
    assert found is not None
    storage.write_text(path, "other")
    assert not store.copy(found, path + "-copy")
    assert not storage.exists(path + "-copy")


def test_what_was_replaced_is_not_written_over(path: str) -> None:
    seen = conditional_writes.read_text(path)
    assert seen is not None
    storage.write_text(path, "other")
    assert conditional_writes.write_if_unchanged(path, "ours", seen) is None
    assert conditional_writes.write_if_unchanged(path, "ours", None) is None
    assert content(path) == "other"


def test_what_was_replaced_is_not_deleted(path: str) -> None:
    seen = conditional_writes.read_text(path)
    assert seen is not None
    storage.write_text(path, "other")
    conditional_writes.delete_if_unchanged(path, seen)
    assert content(path) == "other"


@pytest.mark.parametrize("simulated", [simulated_store.google], indirect=True)
def test_what_is_replaced_between_the_look_and_the_request_stays(
    simulated: SimulatedStore, path: str
) -> None:
    """Of Google's store; on S3 a deletion has no condition, as docs/reliability.md says."""
    seen = conditional_writes.read_text(path)
    assert seen is not None

    def replace_first(request: simulated_store.Request) -> None:
        simulated.before = lambda request: None
        simulated.put("object", b"other")

    simulated.before = replace_first
    conditional_writes.delete_if_unchanged(path, seen)
    assert content(path) == "other"
