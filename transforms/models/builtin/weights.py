"""Read a legacy PyTorch state dict into NumPy arrays, without PyTorch and without running it.

The format (PyTorch before 1.6, `torch/serialization.py`, `_legacy_save`) is five pickles one after
the other, then raw data:

1. a magic number,
2. the protocol version, 1001,
3. facts about the writing machine (byte order, type sizes),
4. the state dict; each tensor names its storage by a persistent id,
5. the list of storage keys,
6. for each key in that order: an int64 count, then that many little-endian values.

A pickle can name any Python function and have it called. This reader resolves exactly the four
names that a state dict needs, to code of its own, and refuses the file at any other.
"""

from __future__ import annotations

import collections
import os
import pickle
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class WeightsError(ValueError):
    """The weights file is not one that this reader accepts; the message says which and why."""


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _TensorView:
    """Where one tensor lies in its storage; offset and strides count values, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, values: np.ndarray) -> np.ndarray:
        """The tensor as a contiguous copy; NumPy checks that it lies inside the storage."""
        size = values.itemsize
        strides = tuple(stride * size for stride in self.strides)
        view: np.ndarray = np.ndarray(self.shape, values.dtype, values, self.offset * size, strides)
        return np.array(view, order="C")


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _TensorView:
    return _TensorView(storage, offset, tuple(size), tuple(stride))


_ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch.FloatStorage": "<f4",
    "torch.LongStorage": "<i8",
}


class _StateDictUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise WeightsError(
                f"it asks for {module}.{name}, which no state dict needs, so it was refused and "
                f"nothing in it was run (allowed: {', '.join(_ALLOWED)})"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, count, view = pid
        if kind != "storage" or view is not None:
            raise WeightsError(f"it has a persistent id that is not a plain storage: {pid!r}")
        return _Storage(key, dtype, count)


def read_state_dict(path: str) -> dict[str, np.ndarray]:
    """Reads every tensor of a legacy PyTorch state dict.

    Args:
      path: a local file as `torch.save(module.state_dict(), path)` wrote it before PyTorch 1.6.

    Returns:
      Tensor name to array, `float32` or `int64`, contiguous, in PyTorch's axis order (convolution
      kernels are `[out, in, height, width]`).

    Raises:
      WeightsError: the file names a global outside the four allowed ones, is cut short, or is not
        of this format.
      OSError: the file cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            return _read(file)
        except (
            ArithmeticError,
            AttributeError,
            EOFError,
            LookupError,
            TypeError,
            ValueError,
            pickle.UnpicklingError,
        ) as error:
            raise WeightsError(f"cannot read the weights file {path}: {error}") from error


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    magic, protocol, machine = (_StateDictUnpickler(file).load() for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL or machine.get("little_endian") is not True:
        raise WeightsError("it is not a little-endian legacy PyTorch file (protocol 1001)")
    views: dict[str, _TensorView] = dict(_StateDictUnpickler(file).load())
    keys = _StateDictUnpickler(file).load()

    storages = {view.storage.key: view.storage for view in views.values()}
    values: dict[str, np.ndarray] = {}
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(_exactly(file, 8), "little")
        if count != storage.count:
            raise WeightsError(f"storage {key} has {count} values, not {storage.count}")
        dtype = np.dtype(storage.dtype)
        values[key] = np.frombuffer(_exactly(file, count * dtype.itemsize), dtype)
    return {name: view.of(values[view.storage.key]) for name, view in views.items()}


def _exactly(file: BinaryIO, size: int) -> bytes:
    remaining = os.fstat(file.fileno()).st_size - file.tell()
    if size > remaining:  # before read(): a damaged count must not ask for terabytes of memory
        raise WeightsError(f"it is cut short: {size} bytes expected, {remaining} left")
    return file.read(size)
