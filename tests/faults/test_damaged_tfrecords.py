"""A damaged TFRecord file: what can be read is rows, the rest error rows that say where it lies."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import json
import pathlib
import zlib
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from examples.photos import sample_photos
from pipeline import run, verify
from tests.helpers.commands import Finished
from tests.helpers.records import HEADER, TRAILER, example, starts, write_records
from transforms.errors import error_table

Run = Callable[..., Finished]

COUNT = 11
# In batches of 4: one good batch, two that hold damage, and a last one of damage alone.
BAD_CHECKSUM, NOT_AN_EXAMPLE, NO_IMAGE, LAST = 5, 7, 8, COUNT - 1
FLAGS = ("--batch_size", 4, "--rows_per_file", 8, "--max_error_rate", 1, "--allow_unreadable")

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


def with_damaged_length(directory: pathlib.Path, number: int) -> bytes:
    """A file with one flipped bit, in the length of a record."""
    data = bytearray(damaged(directory, []))
    data[starts(good_records())[number]] ^= 0x01
    return bytes(data)


@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, zlib.compress], ids=["plain", "gzip", "zlib"]
)
def test_a_damaged_length_costs_its_record(
    tmp_path: pathlib.Path,
    compute: Callable[..., Results],
    whole: dict[int, np.ndarray],
    compress: Callable[[bytes], bytes],
) -> None:
    """As in spotify/scio#815, where it cost all that came after it."""
    found = compute(compress(with_damaged_length(tmp_path, 6)))
    assert_rows_equal(found, whole, set(range(COUNT)) - {6})
    [message] = found.messages.values()
    assert f"record 6 at byte {starts(good_records())[6]} has a damaged length" in message


def test_images_that_cannot_be_found_are_no_success_unless_allowed(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run, capfd
) -> None:
    path, out = tmp_path / "a.tfrecord", tmp_path / "out"
    path.write_bytes(with_damaged_length(tmp_path, 6))
    command = ["--input", path, "--output", out, "--model", tiny_model]
    lost = f"{record_bytes(6):,} bytes in {path} cannot be read, about 1 image"
    dry = run_here(*command, "--dry_run")
    assert (dry.code, lost in dry.err) == (0, True)
    for _ in range(2):  # another night changes nothing: they are still not found
        done = run_here(*command)
        assert done.code == 1
        assert f"failed: {lost}" in done.err and "--allow_unreadable" in done.err
        assert "nothing was published" in done.err
        assert f"lost     {lost}" in done.out
        assert not (out / "_SUCCESS").exists() and not (out / "_snapshot.json").exists()
    [told] = json.loads((out / "_run.json").read_text())["unreadable"]
    assert told == {"uri": str(path), "bytes": record_bytes(6), "images": 1, "places": 1}
    done = run_here(*command, "--allow_unreadable")
    assert (done.code, "nothing was computed" in done.out) == (0, True)
    assert f"lost     {lost}" in done.out and (out / "_SUCCESS").exists()
    assert run_here(*command).code == 1
    assert verify.main([str(out), "--sample", "0"]) == 0
    assert f"images that cannot be found, such as in {path}" in capfd.readouterr().out
    path.write_bytes(damaged(tmp_path, []))
    assert run_here(*command, "--mode", "sync").code == 0
    assert len(pd.read_parquet(out)) == COUNT
    assert not list((out / "_errors").glob("*"))


def test_sync_keeps_the_rows_of_images_that_cannot_be_found(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run
) -> None:
    path, out = tmp_path / "a.tfrecord", tmp_path / "out"
    path.write_bytes(damaged(tmp_path, []))
    command = ["--input", path, "--output", out, "--model", tiny_model, "--mode", "sync"]
    command += ["--tfrecord_id_key", "name", "--allow_unreadable"]
    assert run_here(*command).code == 0
    path.write_bytes(with_damaged_length(tmp_path, 6))
    done = run_here(*command)
    assert "1 rows stay whose directory or file cannot be read now" in done.err
    assert sorted(map(record_number, pd.read_parquet(out)["id"])) == list(range(COUNT))


def test_a_container_of_which_nothing_can_be_read_counts_as_what_it_holds(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run
) -> None:
    good, page = tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"
    data = damaged(tmp_path, [])
    good.write_bytes(data)
    page.write_bytes(b"<html>try again later</html>".ljust(len(data)))
    command = ["--input", good, page, "--model", tiny_model, "--allow_unreadable"]
    assert run_here(*command, "--output", tmp_path / "1", "--max_error_rate", 0.4).code == 1
    done = run_here(*command, "--output", tmp_path / "2", "--max_error_rate", 0.6)
    assert done.code == 0
    assert f"{len(data):,} bytes in {page} cannot be read, about {COUNT} images" in done.out
    done = run_here(*command, "--output", tmp_path / "2", "--max_error_rate", 0)
    assert done.code == 0  # it is of an earlier night


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
