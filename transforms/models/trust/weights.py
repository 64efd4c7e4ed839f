"""What of an HDF5 file lies in other files, found before anybody reads its data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from transforms.errors import Parameter, UserError, one_line

# Of HDF5's filters those that h5py brings; any other is a library that HDF5 looks for and loads.
_FILTERS = (1, 2, 3, 32000)  # gzip, shuffle, checksum, LZF


def foreign_data(path: str, weights: BinaryIO) -> Iterator[str]:
    """What a file of weights takes from elsewhere, each in words.

    Args:
      path: of the model, for messages.
      weights: the HDF5 file.

    Raises:
      UserError: it is damaged.
    """
    import h5py

    try:
        with h5py.File(weights, "r") as file:
            waiting, seen = [file["/"]], {_address(file["/"])}
            while waiting:
                group = waiting.pop()
                for name in group:
                    place = f"{group.name.rstrip('/')}/{name}"
                    link = group.get(name, getlink=True)
                    if not isinstance(link, h5py.HardLink):
                        yield f"{type(link).__name__} {place}"
                        continue
                    item = group[name]
                    if _address(item) in seen:
                        continue
                    seen.add(_address(item))
                    if isinstance(item, h5py.Group):
                        waiting.append(item)
                    elif isinstance(item, h5py.Dataset):
                        yield from (f"{what} {place}" for what in _of_dataset(item))
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, RecursionError) as error:
        raise UserError(
            f"model.weights.h5 is damaged: {one_line(error)}", subject=Parameter("model", path)
        ) from error


def _address(item: Any) -> int:
    import h5py

    return h5py.h5o.get_info(item.id).addr


def _of_dataset(dataset: Any) -> Iterator[str]:
    if dataset.external:
        yield "external data"
    if dataset.is_virtual:
        yield "virtual data"
    properties = dataset.id.get_create_plist()
    for at in range(properties.get_nfilters()):
        number = properties.get_filter(at)[0]
        if number not in _FILTERS:
            yield f"HDF5 filter {number}"
