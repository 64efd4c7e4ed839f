"""A store that answers 503 to any request of a whole night: the evening or the morning, never less.

The stores are emulated by servers; the same with every request, with kills and with launchers that
sleep is done on simulated ones (`test_simulated_stores.py`), which are faster.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator

import pyarrow.parquet as pq
import pytest

from pipeline.checks.parts import check_parts
from pipeline.checks.sample import Sample
from pipeline.output.directory import Output
from tests.faults.test_simulated_stores import spread
from tests.helpers import object_stores, small_night
from tests.helpers.object_stores import Store
from tests.helpers.outputs import committed_ids
from tests.helpers.simulated_nights import REMAINING
from tests.helpers.simulated_nights import patched as nights_here
from tests.helpers.soak import usual_or_soak
from transforms import storage
from transforms.dataset import snapshot
from transforms.storage import retries

AT_MOST = usual_or_soak(2, 10_000)
AWAY = 10_000  # more requests than a night makes


@pytest.fixture(scope="module", params=[object_stores.gcs, object_stores.s3])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with request.param() as store, pytest.MonkeyPatch.context() as patch, nights_here():
        patch.setattr(retries, "FIRST_WAIT_SECONDS", 0)
        yield store


@pytest.fixture(scope="module")
def evening(store: Store) -> Callable[[], str]:
    """Makes a new output as it was in the evening."""
    first = storage.join(store.uri, "evening")
    assert have_night(first, small_night.evening()) == 0
    names = sorted(storage.list_files(first), key=lambda name: name == "_snapshot.json")
    files = {name: storage.read(storage.join(first, name), 2**20)[0] for name in names}
    numbers = iter(range(1_000_000))

    def prepare() -> str:
        output = storage.join(store.uri, f"night-{next(numbers)}")
        for name, content in files.items():  # the snapshot last: it is not older than the parts
            storage.write_atomically(storage.join(output, name), writer_of(content))
        return output

    return prepare


@pytest.fixture(scope="module")
def requests(store: Store, evening: Callable[[], str]) -> int:
    """How many a night has."""
    output, proxy = evening(), store.proxy
    assert proxy is not None
    proxy.fail(0)
    assert have_night(output, small_night.morning()) == 0
    count = len(proxy.requests)
    check_finished(output)
    return count


def writer_of(content: bytes) -> Callable[[str], None]:
    def write(local_path: str) -> None:
        with open(local_path, "wb") as file:
            file.write(content)

    return write


def have_night(output: str, versions: dict[str, str]) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return small_night.run(output, versions)


def check_seen(directory: str) -> None:
    """Who goes by the snapshot sees one of the two states, of whole files."""
    state = snapshot.read_snapshot(directory)
    seen: dict[str, str] = {}
    for name, checksum in state.checksums.items():
        path = storage.join(directory, name)
        assert storage.checksum(path) == checksum
        table = pq.read_table(io.BytesIO(storage.read(path, 2**20)[0]), columns=["id", "version"])
        rows = {row["id"]: row["version"] for row in table.to_pylist()}
        assert not rows.keys() & seen.keys()
        seen |= rows
    assert seen in (small_night.evening(), small_night.morning())


def check_finished(directory: str) -> None:
    """The morning, with nothing left behind; every part is well."""
    output = Output(directory).refresh()
    assert committed_ids(output) == small_night.morning()
    state = snapshot.read_snapshot(directory)
    assert set(state.checksums) == set(output.files)
    assert check_parts(output, output.all_names(), state, Sample(0, 0)).problems == []
    assert set(storage.list_names(directory)) - set(output.parts) <= REMAINING


@pytest.mark.parametrize("passed_on", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("times", [1, AWAY], ids=["once", "from then on"])
def test_each_request_of_a_night(
    store: Store,
    evening: Callable[[], str],
    requests: int,
    passed_on: bool,
    times: int,
    record_property: pytest.RecordProperty,
) -> None:
    proxy = store.proxy
    assert proxy is not None
    numbers, survived = spread(requests, AT_MOST), 0
    for number in numbers:
        output = evening()
        proxy.fail(number, passed_on, times)
        code = None
        with contextlib.suppress(OSError, ValueError):
            code = have_night(output, small_night.morning())
        told = f"request {number}, {proxy.requests[number - 1]}, exit code {code}"
        assert proxy.failed, told
        proxy.fail(0)
        assert code == 0 or times == AWAY, f"{told}: one failure is overcome"
        survived += code == 0
        check_seen(output)
        storage.delete([storage.join(output, "_lease.json")])  # as if this process were gone
        assert have_night(output, small_night.morning()) == 0, told
        check_finished(output)
        storage.delete([output])  # a store that keeps all of them lists more slowly each time
    how = f"{'once' if times == 1 else 'from then on'}, {'' if passed_on else 'not '}carried out"
    told = f"503 of {store.uri} {how}: at {len(numbers)} of {requests} requests of a night; "
    record_property("told", f"{told}{survived} ended well, the same command finished the others")
