"""`python -m benchmarks.consumers.readers`: what reading 100,000 × 1280 vectors costs, by library.

Each reader takes `id` and `feature_vector` in a process of its own, after its imports. Peak memory
is above what the process held then. A view of a single part is compared with Arrow's buffer.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

import consumers
from benchmarks import machine
from consumers.features import Features
from transforms.batches import BatchPlace, FeatureBatch, ImageRow
from transforms.dataset.columns import PartFormat
from transforms.dataset.snapshot import read_snapshot, update_snapshot
from transforms.dataset.writer import PartWriter
from transforms.refs import ImageRef

ROWS_PER_PART, BATCH_ROWS = 4096, 256
COLUMNS = ["id", "feature_vector"]


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one reader cost.

    Attributes:
      rows: that it gave.
      seconds: from the call to the last row, in the second of two readings.
      peak_mib: memory above that after the imports, in the first reading.
    """

    rows: int
    seconds: float
    peak_mib: float


def write_dataset(directory: pathlib.Path, rows: int, width: int) -> None:
    """Writes an output as the pipeline does, if it is not there."""
    if read_snapshot(str(directory)).generation:
        return
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    part_format = PartFormat("feature_vector", width, fingerprint=(("engine", "none"),))
    names = []
    for number, start in enumerate(range(0, rows, ROWS_PER_PART)):
        size = min(ROWS_PER_PART, rows - start)
        place = BatchPlace(f"{number:016x}", size, 0, 0)
        writer = PartWriter(str(directory), part_format, place)
        for at in range(0, size, BATCH_ROWS):
            count = min(BATCH_ROWS, size - at)
            uris = [f"/photos/{start + at + row:07d}.jpg" for row in range(count)]
            found = tuple(ImageRow(ImageRef(uri, uri, "61440-1"), 500, 375) for uri in uris)
            # Means of what a ReLU6 lets through: not negative, and hard to compress.
            vectors = np.abs(random.standard_normal((count, width), np.float32))
            here = dataclasses.replace(place, start=at, size=count)
            writer.append(FeatureBatch(vectors, found, (), here))
        names.append(f"part-{writer.commit().shard}.parquet")
    update_snapshot(str(directory), names)


def pandas_directly(directory: str) -> int:
    import pandas as pd

    return len(pd.read_parquet(directory, columns=COLUMNS))


def pandas_to_array(directory: str) -> int:
    import pandas as pd

    return len(np.stack(pd.read_parquet(directory, columns=COLUMNS)["feature_vector"]))


def polars_directly(directory: str) -> int:
    import polars as pl

    return pl.read_parquet(f"{directory}/*.parquet", columns=COLUMNS).height


def duckdb_to_arrow(directory: str) -> int:
    import duckdb

    query = f"select {', '.join(COLUMNS)} from '{directory}/*.parquet'"
    return duckdb.sql(query).to_arrow_table().num_rows


def features(directory: str) -> Features:
    return consumers.load_features(directory, COLUMNS)


def streamed(directory: str) -> int:
    return sum(len(batch) for batch in features(directory).batches(BATCH_ROWS))


def through_tf_data(directory: str) -> int:
    dataset = features(directory).to_tf_dataset(BATCH_ROWS)
    return sum(int(batch["feature_vector"].shape[0]) for batch in dataset)


def by_torch_protocol(directory: str) -> int:
    """As PyTorch's loader asks: in shuffled order, a batch a call, collated to an array."""
    rows = features(directory).to_torch()
    order = np.random.default_rng(0).permutation(len(rows))
    given = 0
    for at in range(0, len(rows), BATCH_ROWS):
        asked = rows.__getitems__(order[at : at + BATCH_ROWS].tolist())
        given += len(np.stack([row["feature_vector"] for row in asked]))
    return given


# By name: what is imported before anything is measured, and the reading.
READERS: dict[str, tuple[str, Callable[[str], int]]] = {
    "pandas.read_parquet": ("pandas", pandas_directly),
    "pandas.read_parquet, numpy.stack": ("pandas", pandas_to_array),
    "polars.read_parquet": ("polars", polars_directly),
    "DuckDB to Arrow": ("duckdb", duckdb_to_arrow),
    "to_arrow": ("pyarrow", lambda directory: features(directory).to_arrow().num_rows),
    "to_numpy": ("numpy", lambda directory: len(features(directory).to_numpy())),
    "to_pandas": ("pandas", lambda directory: len(features(directory).to_pandas())),
    "to_polars": ("polars", lambda directory: features(directory).to_polars().height),
    f"batches({BATCH_ROWS})": ("pyarrow", streamed),
    f"to_tf_dataset({BATCH_ROWS}), an epoch": ("tensorflow", through_tf_data),
    "to_torch, an epoch shuffled (protocol only)": ("numpy", by_torch_protocol),
}


def read_here(name: str, directory: str) -> Reading:
    """Reads in this process, which has done nothing else."""
    module, read = READERS[name]
    __import__(module)
    if module == "pandas":
        __import__("pyarrow.dataset")
    if module == "tensorflow":
        import tensorflow as tf

        list(tf.data.Dataset.range(1))  # its threads and their memory
    held = _memory_kib("VmRSS")
    rows = read(directory)
    peak = _memory_kib("VmHWM")
    started = time.perf_counter()
    read(directory)
    return Reading(rows, time.perf_counter() - started, (peak - held) / 1024)


def _memory_kib(figure: str) -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(figure))


def is_view_of_one_part(directory: pathlib.Path, width: int) -> bool:
    """Whether the array of a single part lies in a buffer of Arrow's, by address."""
    import pyarrow as pa

    write_dataset(directory, ROWS_PER_PART, width)
    one = consumers.load_features(str(directory))
    before = pa.total_allocated_bytes()
    vectors = one.to_numpy()
    held = pa.total_allocated_bytes() - before
    column = vectors.base
    while isinstance(column, np.ndarray) and column.base is not None:
        column = column.base
    address = vectors.__array_interface__["data"][0]
    print(
        f"one part of {len(vectors)} rows: the array begins at {address:#x}, its base is "
        f"{type(column).__name__}, Arrow holds {held / 2**20:.1f} MiB for its "
        f"{vectors.nbytes / 2**20:.1f} MiB"
    )
    return isinstance(column, pa.Array) and column.buffers()[1].address == address


def main() -> None:
    """Writes the dataset, reads it with each reader and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path(".cache/benchmarks"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--one", choices=READERS, help="only this reader, in this process")
    options = parser.parse_args()
    directory = options.cache / f"readers-{options.rows}x{options.width}"
    if options.one:
        print(json.dumps(dataclasses.asdict(read_here(options.one, str(directory)))))
        return
    write_dataset(directory, options.rows, options.width)
    print("\n".join(machine.describe()))
    size = options.rows * options.width * 4 / 2**20
    print(f"\n{options.rows:,} × {options.width} float32, {size:,.0f} MiB\n")
    print("| reader | seconds | peak memory, MiB | / the array's |\n|---|---|---|---|")
    for name in READERS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.consumers.readers",
            *sys.argv[1:],
            "--one",
            name,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        reading = Reading(**json.loads(done.stdout.splitlines()[-1]))
        if reading.rows != options.rows:
            raise SystemExit(f"{name} gave {reading.rows} rows of {options.rows}")
        cells = f"{reading.seconds:.2f} | {reading.peak_mib:,.0f} | {reading.peak_mib / size:.2f}"
        print(f"| {name} | {cells} |", flush=True)
    print()
    one = options.cache / f"readers-one-part-{options.width}"
    print("zero copy:", "yes" if is_view_of_one_part(one, options.width) else "no")


if __name__ == "__main__":
    main()
