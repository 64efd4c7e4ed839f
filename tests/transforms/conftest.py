"""What tests on object stores share: an emulated store, and a directory of the test's own in it."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.helpers import object_stores
from tests.helpers.object_stores import Store
from transforms import storage


@pytest.fixture(scope="module", params=[object_stores.gcs, object_stores.s3])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """`gs://`, then `s3://`."""
    with request.param() as store:
        yield store


@pytest.fixture
def directory(store: Store, tmp_path: pathlib.Path) -> str:
    """A URI that no other test uses."""
    return storage.join(store.uri, tmp_path.name)
