"""`pipeline.verify` finds what may happen to an output after it was written."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipeline import verify
from pipeline.output import lease
from pipeline.output.directory import Output
from tests.helpers.commands import Finished, run
from tests.helpers.images import write_random_images
from tests.helpers.jobs import Job, kill_group, write_crops
from tests.helpers.tiny_model import save_tiny_model
from transforms.images import decode as images
from transforms.images.resize import to_float

Verify = Callable[..., Finished]


@pytest.fixture
def output(photos, tmp_path, tiny_model, run_here) -> pathlib.Path:
    """200 rows in about five parts, and two error rows."""
    write_crops(photos, tmp_path / "in", 200)
    (tmp_path / "in" / "empty.jpg").touch()
    (tmp_path / "in" / "text.jpg").write_text("This is not a photo.")
    flags = ["--rows_per_file", 45, "--model", tiny_model]
    done = run_here("--input", tmp_path / "in", "--output", tmp_path / "out", *flags)
    assert done.code == 0, done.err
    return tmp_path / "out"


@pytest.fixture
def check(capfd) -> Verify:
    def call(*arguments: object) -> Finished:
        capfd.readouterr()
        code = verify.main([str(argument) for argument in arguments])
        return Finished(code, *capfd.readouterr())

    return call


def some_part(output: pathlib.Path) -> pathlib.Path:
    return sorted(output.glob("part-*.parquet"))[1]


def rewrite(part: pathlib.Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes a part's rows and keeps its footer, as a careless script would."""
    table = pq.read_table(part)
    metadata = pq.read_metadata(part).metadata
    pq.write_table(change(table).replace_schema_metadata(metadata), part)


def test_an_output_as_it_was_written_is_well(output, check):
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    done = check(output, "--sample", 202)
    assert done.code == 0, done.out
    assert "200 rows, 2 error rows" in done.out
    assert "202 images computed again: vectors differ by at most" in done.out
    assert done.out.endswith("all is well\n")
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_the_command_itself(output):
    command = [sys.executable, "-m", "pipeline.verify", output, "--sample", "5", "--json"]
    done = run(command)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["problems"] == []
    assert found["rows"] == 200
    assert found["sample"]["images"] == 5


def test_one_flipped_byte_is_found_wherever_it_is(output, check):
    part = some_part(output)
    good = part.read_bytes()
    ids = pd.read_parquet(part)["id"].tolist()
    for at in [0, 100, len(good) // 2, len(good) - 400, len(good) - 6, len(good) - 1]:
        part.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        done = check(output, "--sample", 0)
        assert done.code == 1, f"byte {at}"
        assert part.name in done.out
        assert "its bytes are not those that were written" in done.out
    part.write_bytes(good)
    vectors = pq.read_metadata(part).row_group(0).column(5)
    assert vectors.path_in_schema.startswith("feature_vector")
    at = vectors.data_page_offset + vectors.total_compressed_size // 2
    part.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    done = check(output, "--sample", 0)
    assert f"it holds {len(ids)} images, {ids[0]!r} to {ids[-1]!r}" in done.out
    assert "CRC" in done.out
    part.write_bytes(good)
    assert check(output).code == 0


def test_a_flipped_byte_in_the_error_rows_is_found(output, check):
    path = next((output / "_errors").iterdir())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = check(output, "--sample", 0)
    assert done.code == 1
    assert path.name in done.out


def test_a_deleted_part_is_found(output, check):
    part = some_part(output)
    rows = len(pd.read_parquet(part))
    part.unlink()
    done = check(output)
    assert done.code == 1
    assert f"{part}: is missing" in done.out
    assert f"{200 - rows} rows in the parts, _run.json says 200" in done.out


def test_a_duplicated_row_is_found(output, check):
    part = some_part(output)
    twice = pd.read_parquet(part)["id"][7]
    rewrite(part, lambda table: pa.concat_tables([table, table.slice(7, 1)]))
    done = check(output, "--sample", 0)
    assert done.code == 1
    assert f"id {twice!r} is in it twice" in done.out


def test_a_row_in_two_parts_is_found(output, check):
    one, other = sorted(output.glob("part-*.parquet"))[:2]
    stray = pq.read_table(other).slice(3, 1)
    rewrite(one, lambda table: pa.concat_tables([table.slice(1), stray]))
    done = check(output, "--sample", 0)
    assert done.code == 1
    assert f"id {stray['id'][0].as_py()!r} is in it and in {one.name}, too" in done.out


def test_a_vector_that_is_not_finite_is_found(output, check):
    part = some_part(output)
    bad = pd.read_parquet(part)["id"][4]

    def spoil(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("feature_vector")
        vectors = table["feature_vector"].combine_chunks().flatten().to_numpy().copy()
        vectors[4 * 8 + 2] = np.inf
        column = pa.FixedSizeListArray.from_arrays(vectors, type=table.schema.field(at).type)
        return table.set_column(at, table.schema.field(at), column)

    rewrite(part, spoil)
    done = check(output, "--sample", 0)
    assert done.code == 1
    assert f"id {bad!r}: its vector is not finite" in done.out


def test_changed_and_vanished_source_images_are_found(output, check, tmp_path):
    changed, gone = (str(tmp_path / "in" / name) for name in ("00007.jpg", "00009.jpg"))
    pathlib.Path(changed).write_bytes((tmp_path / "in" / "00008.jpg").read_bytes())
    os.utime(changed, (1, 1))
    os.remove(gone)
    done = check(output, "--sample", 202)
    assert done.code == 1
    wrong = [line for line in done.out.splitlines() if line.startswith("wrong")]
    assert len(wrong) == 2
    assert f"id {changed!r}: {changed} has changed since its row was computed" in wrong[0]
    assert f"id {gone!r}: was a row, is now FileNotFoundError" in wrong[1]


def test_another_resize_method_is_found(output, check, monkeypatch):
    def antialiased(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
        return tf.image.resize(to_float(rgb), (height, width), antialias=True).numpy()

    monkeypatch.setattr(images, "resize", antialiased)
    done = check(output, "--sample", 202, "--json")  # all: some images are flat
    assert done.code == 1
    problems = json.loads(done.out)["problems"]
    wrong = [line for line in problems if "another vector is computed now" in line]
    assert len(wrong) >= 0.9 * 200
    assert all("id '" in line and "smallest cosine" in line for line in wrong)


def test_another_model_in_the_same_place_is_found(tmp_path, run_here, check):
    write_random_images(tmp_path / "in", 20)
    model = save_tiny_model(tmp_path / "model", seed=1)
    flags = ["--model", model, "--output", tmp_path / "out"]
    assert run_here("--input", tmp_path / "in", *flags).code == 0
    assert check(tmp_path / "out").code == 0
    save_tiny_model(model, seed=2)
    done = check(tmp_path / "out")
    assert done.code == 1
    assert f"wrong    --model {model}: its SHA-256 is" in done.out
    done = check(tmp_path / "out", "--model", model)
    assert done.code == 1
    assert "other settings now: model_sha256 was" in done.out
    assert done.out.count("another vector is computed now") == 20


def test_records_are_computed_again_from_their_file(photos, tmp_path, tiny_model, run_here, check):
    path = str(tmp_path / "a.tfrecord")
    crops = [pathlib.Path(p).read_bytes() for p in write_crops(photos, tmp_path / "in", 30)]

    def write(images: list[bytes]) -> None:
        with tf.io.TFRecordWriter(path) as writer:
            for data in images:
                feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
                features = tf.train.Features(feature={"image/encoded": feature})
                writer.write(tf.train.Example(features=features).SerializeToString())

    write([*crops, b""])
    flags = ["--model", tiny_model, "--rows_per_file", 8]
    assert run_here("--input", path, "--output", tmp_path / "out", *flags).code == 0
    done = check(tmp_path / "out", "--sample", 31)
    assert done.code == 0, done.out
    assert "31 images computed again" in done.out
    write(crops[:20])
    done = check(tmp_path / "out", "--sample", 31)
    assert done.code == 1
    assert f"id '{path}#3': {path} has changed since its row was computed" in done.out
    assert f"id '{path}#25': {path} does not hold it any more" in done.out


def test_what_an_interrupted_run_left_is_checked_and_told(output, check, tmp_path, tiny_model):
    write_random_images(tmp_path / "in" / "more", 2000)
    arguments = ["--input", tmp_path / "in", "--output", output, "--model", tiny_model]
    job = Job([*map(str, arguments), "--rows_per_file", "45"], output)
    process = job.start()
    assert job.wait_for_parts(process, 3)
    assert "is at work" in check(output).err
    kill_group(process)
    done = check(output, "--sample", 300)
    assert done.code == 1
    [wrong] = [line for line in done.out.splitlines() if line.startswith("wrong")]
    assert "the last run did not finish; the same command again continues" in wrong
    assert f"--output {output}" in wrong
    assert "images computed again: vectors differ by at most" in done.out


def test_mistakes_are_told_in_one_line(output, check, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, message in [
        ([tmp_path / "empty"], "holds no output of this program"),
        ([output, "--sample", "-1"], "--sample: -1 is not a whole number from 0"),
        ([output, "--modle", "x"], "no such option"),
        ([output, "--model", tmp_path / "none"], "none: no such"),
    ]:
        done = check(*arguments)
        assert done.code == 2
        assert message in done.err
        assert len(done.err.splitlines()) == 1
    with contextlib.ExitStack() as stack:
        stack.enter_context(lease.held(Output(str(output)), "abc"))
        assert "run abc on" in check(output).err


def test_the_sample_is_fair_and_repeatable(output, check):
    names = []
    for seed in (1, 1, 2):
        found = verify.verify(Output(str(output)), 10, seed, [])
        assert found.recomputed is not None and found.recomputed.images == 10
        names.append(dataclasses.asdict(found.recomputed))
    assert names[0] == names[1]
