"""A batch in slices, as many at once as there are cores, each on one thread."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable

import numpy as np

from transforms.machine.cores import available_cores

_lock = threading.Lock()
_pools: list[concurrent.futures.ThreadPoolExecutor] = []


def in_slices(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray, size: int) -> np.ndarray:
    """What `run` answers to each `size` images, in order, as one array [B, N].

    Raises:
      Exception: what `run` raises; the other slices are finished or left out.
    """
    if len(images) <= size:
        return run(images)
    slices = [images[start : start + size] for start in range(0, len(images), size)]
    futures = [_pool().submit(run, part) for part in slices]
    try:
        return np.concatenate([future.result() for future in futures])
    finally:
        for future in futures:
            future.cancel()


def _pool() -> concurrent.futures.ThreadPoolExecutor:
    """One pool a process, so that bundles that run at once share the cores."""
    with _lock:
        if not _pools:
            _pools.append(concurrent.futures.ThreadPoolExecutor(available_cores(), "infer"))
        return _pools[0]
