"""A damaged TFRecord file: what can be read is rows, the rest error rows that say where it lies."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from examples.photos import sample_photos
from pipeline import run
from tests.helpers.commands import Finished
from tests.helpers.records import HEADER, TRAILER, example, starts, write_records
from transforms.errors import error_table

Run = Callable[..., Finished]

COUNT = 11
# In batches of 4: one good batch, two that hold damage, and a last one of damage alone.
BAD_CHECKSUM, NOT_AN_EXAMPLE, NO_IMAGE, LAST = 5, 7, 8, COUNT - 1
FLAGS = ("--batch_size", 4, "--rows_per_file", 8, "--max_error_rate", 1)

WHY = {
    BAD_CHECKSUM: "is damaged: its checksum does not fit its data",
    NOT_AN_EXAMPLE: "not a tf.Example",
    NO_IMAGE: "has no feature 'image/encoded'",
    LAST: "is cut off",
}


@dataclasses.dataclass(frozen=True)
class Results:
    """What an output holds: vectors of the rows and messages of the error rows, by record."""

    vectors: dict[int, np.ndarray]
    messages: dict[int, str]
    errors: pd.DataFrame
    ids: tuple[str, ...]


def good_records() -> list[bytes]:
    """Examples with real photos and an id."""
    photos = [path for path in sample_photos() if path.stat().st_size < 200_000]
    assert len(photos) >= COUNT
    return [
        example(image=[path.read_bytes()], name=[f"photo {number}".encode()])
        for number, path in enumerate(photos[:COUNT])
    ]


def records_with(unusable: Sequence[int]) -> list[bytes]:
    """The good records, but for those that are no Example or have no image."""
    records = good_records()
    if NOT_AN_EXAMPLE in unusable:
        records[NOT_AN_EXAMPLE] = b"To whom it may concern: this is no tf.Example."
    if NO_IMAGE in unusable:
        records[NO_IMAGE] = example(name=[b"photo 8"], other=[1, 2])
    return records


def damaged(directory: pathlib.Path, damage: Sequence[int]) -> bytes:
    """A file that TensorFlow wrote, with the damage that `WHY` tells of at the records `damage`."""
    records = records_with(damage)
    data = bytearray(pathlib.Path(write_records(directory / "whole", records)).read_bytes())
    at = starts(records)
    if BAD_CHECKSUM in damage:
        data[at[BAD_CHECKSUM] + HEADER + 1000] ^= 0x10
    if LAST in damage:
        del data[(at[LAST] + len(data)) // 2 :]
    return bytes(data)


def results(path: pathlib.Path, out: pathlib.Path, done: Finished) -> Results:
    """Reads an output, and holds it to the promise: each record is a row or an error row, once."""
    assert done.code == 0, done.err
    rows = pd.read_parquet(out)
    errors = error_table([]).to_pandas()
    if (out / "_errors").exists():
        errors = pd.read_parquet(out / "_errors")
    ids = (*rows["id"], *errors["id"])
    assert max(Counter(ids).values()) == 1
    assert f"{len(ids)} matched: {len(rows)} rows and {len(errors)} errors" in done.out
    assert {*rows["uri"], *errors["uri"]} == {str(path)}
    return Results(
        {record_number(row.id): np.asarray(row.feature_vector) for row in rows.itertuples()},
        {record_number(row.id): row.message for row in errors.itertuples()},
        errors,
        ids,
    )


def record_number(image_id: str) -> int:
    """Of an id by place, `<uri>#<number>`, or by feature, `photo <number>`."""
    return int(image_id.replace("#", " ").rsplit(" ", 1)[1])


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: pathlib.Path
) -> dict[int, np.ndarray]:
    """The vectors of the undamaged file's records."""
    directory = tmp_path_factory.mktemp("whole")
    path = directory / "a.tfrecord"
    write_records(path, good_records())
    command = ["--input", path, "--output", directory / "out", "--model", tiny_model, *FLAGS]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run.main([str(word) for word in command])
    found = results(path, directory / "out", Finished(code, out.getvalue(), err.getvalue()))
    assert found.vectors.keys() == set(range(COUNT))
    assert not found.messages
    return found.vectors


@pytest.fixture
def compute(tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run) -> Callable:
    """Runs the command on a file of these bytes."""

    def call(data: bytes, *flags: object) -> Results:
        path = tmp_path / "a.tfrecord"
        path.write_bytes(data)
        out = tmp_path / "out"
        command = ["--input", path, "--output", out, "--model", tiny_model, *FLAGS, *flags]
        return results(path, out, run_here(*command))

    return call


def assert_rows_equal(found: Results, whole: dict[int, np.ndarray], expected: set[int]) -> None:
    """The rows are the records `expected`, with the vectors that they have in the whole file."""
    assert found.vectors.keys() == expected
    for number, vector in found.vectors.items():
        # In a batch with other images the last bit may differ.
        np.testing.assert_allclose(vector, whole[number], rtol=1e-5, atol=1e-5, err_msg=str(number))


@pytest.mark.parametrize(
    "damage",
    [*([number] for number in WHY), list(WHY)],
    ids=["bad checksum", "not an Example", "no image key", "cut", "all four"],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_damage_costs_its_records_and_no_other(
    tmp_path: pathlib.Path,
    compute: Callable[..., Results],
    whole: dict[int, np.ndarray],
    damage: list[int],
    compress: Callable[[bytes], bytes],
) -> None:
    found = compute(compress(damaged(tmp_path, damage)))
    assert_rows_equal(found, whole, set(range(COUNT)) - set(damage))
    assert found.messages.keys() == set(damage)
    at = starts(records_with(damage))
    for number in damage:
        assert f"record {number} at byte {at[number]}" in found.messages[number]
        assert WHY[number] in found.messages[number]
    assert set(found.errors["error_type"]) == {"RecordError"}
    assert set(found.errors["stage"]) == {"read"}
    assert len(found.ids) == COUNT


def test_where_it_lies_is_told_of_images_that_have_ids_of_their_own(
    tmp_path: pathlib.Path, compute: Callable[..., Results], whole: dict[int, np.ndarray]
) -> None:
    found = compute(damaged(tmp_path, list(WHY)), "--tfrecord_id_key", "name")
    assert_rows_equal(found, whole, set(range(COUNT)) - set(WHY))
    assert f"photo {NO_IMAGE}" in set(found.errors["id"])
    for number, message in found.messages.items():
        assert f"record {number} at byte " in message


def test_a_damaged_length_costs_the_rest_of_the_file_and_says_so(
    tmp_path: pathlib.Path, compute: Callable[..., Results], whole: dict[int, np.ndarray]
) -> None:
    data = bytearray(damaged(tmp_path, []))
    at = starts(good_records())[6]
    data[at + 8] ^= 0x01
    found = compute(bytes(data))
    assert_rows_equal(found, whole, set(range(6)))
    [message] = found.messages.values()
    assert f"record 6 at byte {at} has a damaged length" in message
    assert "the rest of the file cannot be read" in message


@pytest.mark.parametrize("eighths", [1, 4, 7])
def test_of_a_gzip_file_that_is_cut_what_lies_before_the_cut_is_rows(
    tmp_path: pathlib.Path,
    compute: Callable[..., Results],
    whole: dict[int, np.ndarray],
    eighths: int,
) -> None:
    data = damaged(tmp_path, [])
    compressed = gzip.compress(data, 0)
    cut = len(compressed) * eighths // 8
    found = compute(compressed[:cut])
    ends = [*starts(good_records())[1:], len(data)]
    # Stored uncompressed, a record that ends before the cut is whole.
    before = {number for number, end in enumerate(ends) if end < cut - 1000}
    assert_rows_equal(found, whole, before)
    [(number, message)] = found.messages.items()
    assert number == len(before)
    assert f"record {number} at byte {ends[number] - record_bytes(number)}" in message


def record_bytes(number: int) -> int:
    """How many bytes of the file the good record of this number takes."""
    return HEADER + len(good_records()[number]) + TRAILER


def test_a_file_of_nothing_but_damage_is_error_rows(
    tmp_path: pathlib.Path, compute: Callable[..., Results]
) -> None:
    records = [b"no Example", example(other=[1]), example(image=[b""])]
    found = compute(pathlib.Path(write_records(tmp_path / "whole", records)).read_bytes())
    assert not found.vectors
    assert found.messages.keys() == {0, 1, 2}
    assert found.errors.set_index("id")["error_type"].tolist() == [
        "RecordError",
        "RecordError",
        "EmptyImageError",
    ]
