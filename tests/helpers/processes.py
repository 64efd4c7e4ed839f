"""A pytest plugin for tests in several processes (`--numprocesses 2`), or in one.

The long files begin, so that no process is left with one when the others are done. All processes
share one cache of the built-in model and of what OpenVINO converted: it is made once, and neither
reads nor changes the user's. Models that have piled up are let go.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

import psutil
import pytest

# A process keeps a part of what it once needed for TensorFlow: so those begin whose peaks are the
# highest, while it is small; then the others by how long they take.
FIRST_FILES = (
    "end_to_end/test_train.py",
    "examples/test_retrain.py",
    "transforms/engines/test_engines.py",
    "transforms/test_infer.py",
    "end_to_end/test_photos.py",
    "end_to_end/test_engines.py",
    "end_to_end/test_hard_folder.py",
    "faults/test_kills.py",
    "faults/test_two_runs.py",
    "docs/test_docs.py",
    "end_to_end/test_model_forms.py",
    "faults/test_sync.py",
    "faults/test_memory.py",
    "end_to_end/test_many_images.py",
    "benchmarks/test_benchmarks.py",
    "faults/test_disk_full.py",
    "pipeline/test_status.py",
    "end_to_end/test_command.py",
    "end_to_end/test_workers_elsewhere.py",
    "end_to_end/test_flink.py",
    "faults/test_fuzzed_images.py",
)

# Looking for what can be let go takes a tenth of a second.
_GROWTH_MIB = 60

# Of malloc.h: what is freed goes back to the system, although many threads have allocated it.
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8

_CACHE = "BEAM_IMAGE_FEATURES_CACHE"
_cache_of_this_run = pytest.StashKey[str]()
_resident_without_models = pytest.StashKey[float]()


def only_distributes(config: pytest.Config) -> bool:
    """Whether this process runs no tests itself but hands them to others."""
    return bool(config.getoption("numprocesses", 0)) and not hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        cache = tempfile.mkdtemp(prefix="beam-image-features-tests-")
        config.stash[_cache_of_this_run] = os.environ[_CACHE] = cache


def pytest_unconfigure(config: pytest.Config) -> None:
    if _cache_of_this_run in config.stash:
        shutil.rmtree(config.stash[_cache_of_this_run], ignore_errors=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    if not only_distributes(session.config):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 2**18)
        libc.mallopt(_ARENA_MAX, 1)
        from transforms.machine.tensorflow_import import import_tensorflow

        import_tensorflow()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        path = item.path.as_posix()
        long = [number for number, file in enumerate(FIRST_FILES) if path.endswith(file)]
        return long[0] if long else len(FIRST_FILES)

    items.sort(key=place)  # within a file, and of the others, the order stays


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()  # what is loaded by now stays; looking through it takes half a second each time
    session.config.stash[_resident_without_models] = _resident_mib()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # else native libraries complain of objects that outlive them


@pytest.fixture(autouse=True)
def models_are_let_go(pytestconfig: pytest.Config) -> Iterator[None]:
    """A process keeps each engine that it has loaded: a run has one, the tests have hundreds."""
    yield
    if _resident_mib() < pytestconfig.stash[_resident_without_models] + _GROWTH_MIB:
        return
    engines = sys.modules.get("transforms.engines")
    if engines is not None:
        engines._engines.clear()
    for library in ("keras", "tf_keras"):
        if library in sys.modules:
            sys.modules[library].backend.clear_session()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pytestconfig.stash[_resident_without_models] = _resident_mib()


def _resident_mib() -> float:
    return psutil.Process().memory_info().rss / 2**20
