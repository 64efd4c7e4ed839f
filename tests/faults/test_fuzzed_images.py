"""Images damaged at random, in any mixture and grouping: rows or error rows, each image once."""

from __future__ import annotations

import dataclasses
import pathlib
import random
import resource
from collections import Counter
from collections.abc import Callable, Sequence

import apache_beam as beam
import hypothesis
import numpy as np
import pandas as pd
import PIL.Image
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from hypothesis import strategies

import runners.direct
from examples.photos import sample_photos
from tests.helpers.commands import Finished, run_command
from tests.helpers.encoded_images import png_chunk, saved, tensorflow_pixels
from tests.helpers.images import write_random_images
from tests.helpers.records import example, write_records
from tests.helpers.tiny_model import TINY_SIZE, TINY_WIDTH
from transforms import storage
from transforms.commit import CommitParts
from transforms.dataset.columns import PartFormat
from transforms.dataset.layout import part_path
from transforms.dataset.part import Part, read_part
from transforms.dataset.writer import PartWriter
from transforms.decode import DecodeShards
from transforms.errors import ImageError, ImageTooLargeError, UnsupportedImageError
from transforms.images.decode import decode_image
from transforms.images.headers import MAX_SCANS
from transforms.images.read_ahead import decode_shard
from transforms.images.spec import ImageSpec
from transforms.infer import InferFeatures, infer
from transforms.inputs.listing import list_images
from transforms.models.source import ModelSource
from transforms.refs import ImageRef
from transforms.shards import Shard, group_into_shards, write_plan

# Files damaged by a seeded fuzzer, through the whole command

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
GOOD_OF_A_FORMAT = 6
DAMAGED_OF_A_KIND = 12

ERROR_TYPES = {error.__name__ for error in ImageError.__subclasses__()}


def encoded_photos(file_format: str) -> list[bytes]:
    """Photos, small enough that damage meets their structure and not only their data."""
    photos = []
    for path in sample_photos()[:GOOD_OF_A_FORMAT]:
        with PIL.Image.open(path) as photo:
            picture = photo.convert("P" if file_format == "GIF" else "RGB")
        picture.thumbnail((96, 96))
        photos.append(saved(picture, file_format))
    return photos


def flip_bits(data: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    """One to eight bits, half of the time in the header; a PNG's header gets its checksum right."""
    changed = bytearray(data)
    reach = chance.choice([40, len(data)])
    for _ in range(chance.choice([1, 2, 8])):
        changed[chance.randrange(2, reach)] ^= 1 << chance.randrange(8)
    if changed.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"):
        changed[8:33] = png_chunk(b"IHDR", bytes(changed[16:29]))
    return bytes(changed)


def cut(data: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    return data[: chance.randrange(len(data))]


def splice(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """The beginning of one image, then the end of another, of whatever format."""
    other = chance.choice(others)
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


def wrong_header(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Another image's first bytes, or numbers in the header that are as large as they can be."""
    length = chance.choice([2, 4, 12, 32, 64])
    if chance.random() < 0.5:
        return chance.choice(others)[:length] + data[length:]
    at = chance.randrange(4, 40)
    extreme = chance.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
    return data[:at] + extreme[: chance.choice([1, 2, 4])] + data[at + 4 :]


DAMAGES = (flip_bits, cut, splice, wrong_header)


@pytest.fixture(scope="module")
def good_files() -> dict[str, bytes]:
    return {
        f"good-{number}.{file_format.lower()}": data
        for file_format in FORMATS
        for number, data in enumerate(encoded_photos(file_format))
    }


@pytest.fixture(scope="module")
def damaged_files(good_files: dict[str, bytes]) -> dict[str, bytes]:
    good, damaged = list(good_files.values()), {}
    for file_format in FORMATS:
        originals = encoded_photos(file_format)
        for damage in DAMAGES:
            for number in range(DAMAGED_OF_A_KIND):
                name = f"{damage.__name__}-{number}.{file_format.lower()}"
                chance = random.Random(name)
                damaged[name] = damage(chance.choice(originals), chance, good)
    assert len(damaged) >= 200
    return damaged


def write_files(directory: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    directory.mkdir()
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def vectors_by_name(output: pathlib.Path) -> dict[str, np.ndarray]:
    rows = pd.read_parquet(output)
    return {pathlib.Path(row.id).name: row.feature_vector for row in rows.itertuples()}


def test_damaged_files_are_rows_or_named_errors_and_leave_the_others_alone(
    tmp_path: pathlib.Path,
    tiny_model: pathlib.Path,
    run_here: Callable[..., Finished],
    good_files: dict[str, bytes],
    damaged_files: dict[str, bytes],
) -> None:
    hostile = {
        "hostile-scans.jpeg": jpeg_of_scans(6000, 100_000),
        "hostile-frames.gif": gif_of_frames(2000, 500),
    }
    files = good_files | damaged_files | hostile
    flags = ["--model", tiny_model, "--batch_size", 16, "--rows_per_file", 60]
    clean, out = tmp_path / "clean", tmp_path / "out"
    inputs = write_files(tmp_path / "good", good_files), write_files(tmp_path / "all", files)
    assert run_here("--input", inputs[0], "--output", clean, *flags).code == 0
    # In a process of its own: a decoder that crashes or hangs ends that and not the tests.
    done = run_command("--input", inputs[1], "--output", out, *flags, "--max_error_rate", 1)
    assert done.code == 0, done.err

    rows, errors = pd.read_parquet(out), pd.read_parquet(out / "_errors")
    assert f"{len(files)} matched: {len(rows)} rows and {len(errors)} errors" in done.out
    assert sorted([*rows["id"], *errors["id"]]) == sorted(str(inputs[1] / name) for name in files)
    vectors, undamaged = vectors_by_name(out), vectors_by_name(clean)
    assert undamaged.keys() == good_files.keys()
    for name, vector in undamaged.items():
        # In a batch with other images the last bit may differ.
        np.testing.assert_allclose(vectors[name], vector, rtol=1e-5, atol=1e-5, err_msg=name)
    assert np.isfinite(np.stack(list(vectors.values()))).all()
    assert set(errors["error_type"]) <= ERROR_TYPES
    assert set(errors["stage"]) == {"decode"}
    assert not errors["message"].str.contains("\n").any()
    types = errors.set_index(errors["id"].map(lambda uri: pathlib.Path(uri).name))["error_type"]
    assert types["hostile-scans.jpeg"] == "UnsupportedImageError"
    assert "hostile-frames.gif" in vectors
    survivors = len(vectors.keys() & damaged_files.keys())
    assert len(damaged_files) // 20 < survivors < len(damaged_files) * 19 // 20
    counts = Counter(types.drop("hostile-scans.jpeg"))
    print(f"{len(damaged_files)} damaged files: {survivors} rows, {dict(counts.most_common())}")


# Small files that ask for much work


def jpeg_of_scans(size: int, scans: int) -> bytes:
    """A progressive JPEG to which empty scans are added until it has that many."""
    data = saved(PIL.Image.new("L", (size, size), 128), "JPEG", progressive=True)
    empty = b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0"
    return data[:-2] + empty * (scans - data.count(b"\xff\xda")) + data[-2:]


def gif_of_frames(size: int, frames: int) -> bytes:
    """A GIF that repeats one frame."""
    data = saved(PIL.Image.new("P", (size, size)), "GIF")
    first = 13 + (3 << (data[10] & 7) + 1)
    return data[:first] + data[first:-1] * frames + data[-1:]


def test_jpegs_have_a_limit_of_scans() -> None:
    spec = ImageSpec(64, 64)
    most = jpeg_of_scans(64, MAX_SCANS)
    assert np.array_equal(decode_image(most, spec).pixels, tensorflow_pixels(most))
    with pytest.raises(UnsupportedImageError, match=f"more than {MAX_SCANS} scans"):
        decode_image(jpeg_of_scans(64, MAX_SCANS + 1), spec)


def test_what_only_looks_like_scans_does_not_count() -> None:
    looks = b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0" * (MAX_SCANS + 1)
    plain = saved(PIL.Image.new("RGB", (64, 64), (9, 99, 199)), "JPEG", progressive=True)
    comment = b"\xff\xfe" + (len(looks) + 2).to_bytes(2, "big") + looks
    for data in (plain[:2] + comment + plain[2:], plain[:-2] + comment + plain[-2:], plain + looks):
        pixels = decode_image(data, ImageSpec(64, 64)).pixels
        assert np.array_equal(pixels, tensorflow_pixels(plain))


def test_a_gif_costs_its_first_frame_where_no_other_is_larger() -> None:
    data = gif_of_frames(50, 1000)
    decoded = decode_image(data, ImageSpec(50, 50, max_pixels=50 * 50))
    assert np.array_equal(decoded.pixels, tensorflow_pixels(data))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decode_image(gif_of_frames(2000, 300), ImageSpec(50, 50))  # all frames are 1.2 GB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 300_000  # kB


def test_a_gif_with_a_larger_frame_counts_all_of_its_frames() -> None:
    small, large = gif_of_frames(10, 1), gif_of_frames(50, 3)
    data = small[:-1] + large[13 + (3 << (large[10] & 7) + 1) :]
    pixels = tensorflow_pixels(data)
    assert pixels.shape == (50, 50, 3)
    decoded = decode_image(data, ImageSpec(50, 50, max_pixels=4 * 50 * 50))
    assert np.array_equal(decoded.pixels, pixels)
    with pytest.raises(ImageTooLargeError, match="50×50 pixels in each of 4 frames"):
        decode_image(data, ImageSpec(50, 50, max_pixels=4 * 50 * 50 - 1))


# 1,000 images, grouped and damaged in any way

COUNT = 1000
SPEC = ImageSpec(TINY_SIZE, TINY_SIZE)

# What is wrong with an image, and the error type when it is a file and when it is a record.
PROBLEMS = {
    "empty": ("EmptyImageError", "EmptyImageError"),
    "not an image": ("NotAnImageError", "NotAnImageError"),
    "truncated": ("CorruptImageError", "CorruptImageError"),
    "missing": ("FileNotFoundError", "RecordError"),
}


def pixels_as_features(images: np.ndarray) -> np.ndarray:
    """Eight of an image's own pixels: an engine that shows whose vector a vector is, bit by bit."""
    return np.ascontiguousarray(images[:, ::4, ::8, 0].reshape(len(images), -1))


PIXELS_FORMAT = PartFormat("feature_vector", width=TINY_WIDTH)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """1,000 small images: the files, the images that are not usable, and what to expect.

    Attributes:
      paths: of the images.
      unusable: path of a file with each problem.
      images: [1000, 16, 16, 3] float32, decoded one at a time.
    """

    paths: list[pathlib.Path]
    unusable: dict[str, pathlib.Path]
    images: np.ndarray


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    directory = tmp_path_factory.mktemp("corpus")
    paths = write_random_images(directory / "good", COUNT)
    images = np.stack([decode_image(path.read_bytes(), SPEC).pixels for path in paths])
    assert len({vector.tobytes() for vector in pixels_as_features(images)}) == COUNT
    contents = {
        "empty": b"",
        "not an image": b"To whom it may concern: this is not a photo.",
        "truncated": paths[0].read_bytes()[:700],
    }
    unusable = {problem: directory / f"{problem}.png" for problem in PROBLEMS}
    for problem, content in contents.items():
        unusable[problem].write_bytes(content)
    return Corpus(paths, unusable, images)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the 1,000 images are stored, damaged and grouped.

    Attributes:
      rows_per_file, batch_size: as on the command line.
      records: the last so many images are records of one TFRecord file.
      problems: what is wrong with some of the images, by position.
      order: seed of the order in which the refs are listed.
    """

    rows_per_file: int
    batch_size: int
    records: int
    problems: dict[int, str]
    order: int


def problems_of_runs(runs: Sequence[tuple[int, int, str]]) -> dict[int, str]:
    """From (first position, length, problem): single images, whole batches and whole shards."""
    return {
        position: problem
        for first, length, problem in runs
        for position in range(first, min(first + length, COUNT))
    }


positions = strategies.integers(0, COUNT - 1)
lengths = strategies.one_of(strategies.just(1), strategies.integers(1, 400))
layouts = strategies.builds(
    Layout,
    rows_per_file=strategies.integers(20, 1200),
    batch_size=strategies.integers(1, 300),
    records=strategies.one_of(strategies.just(0), strategies.integers(0, COUNT)),
    problems=strategies.lists(
        strategies.tuples(positions, lengths, strategies.sampled_from(list(PROBLEMS))), max_size=12
    ).map(problems_of_runs),
    order=strategies.integers(0, 99),
)


def list_refs(corpus: Corpus, layout: Layout, directory: pathlib.Path) -> list[ImageRef]:
    """Refs of the files, and then of the records as the command lists them."""
    refs = []
    files = COUNT - layout.records
    for position, path in enumerate(corpus.paths[:files]):
        if position in layout.problems:
            path = corpus.unusable[layout.problems[position]]
        version = storage.version(path.stat()) if path.exists() else "1"
        refs.append(ImageRef(f"{position:04d}", str(path), version))
    if layout.records:
        records = [record(corpus, layout, position) for position in range(files, COUNT)]
        container = write_records(directory / "a.tfrecord", records)
        refs += list_images([container]).refs
    return refs


def record(corpus: Corpus, layout: Layout, position: int) -> bytes:
    problem = layout.problems.get(position)
    if problem == "missing":
        return example(other=[position])
    path = corpus.unusable[problem] if problem else corpus.paths[position]
    return example(image=[path.read_bytes()])


def position_of(image_id: str, layout: Layout) -> int:
    place, _, number = image_id.rpartition("#")
    return COUNT - layout.records + int(number) if place else int(number)


def assert_all_is_well(
    output: pathlib.Path,
    committed: list[Part],
    shards: list[Shard],
    layout: Layout,
    expected: np.ndarray,
    tolerance: float = 0.0,
) -> None:
    """Counts add up, each image is there once, in the documented order and with its own vector."""
    assert sorted(part.shard for part in committed) == sorted(shard.name for shard in shards)
    by_name = {shard.name: shard for shard in shards}
    seen: list[int] = []
    for part in committed:
        refs = by_name[part.shard].refs
        table = pq.read_table(part_path(str(output), part.shard))
        errors = []
        if part.errors_file:
            errors = pq.read_table(output / "_errors" / part.errors_file).to_pylist()
        assert (part.rows, part.errors) == (len(table), len(errors))
        assert part.rows + part.errors == len(refs)
        rows = [position_of(image_id, layout) for image_id in table["id"].to_pylist()]
        failed = [position_of(error["id"], layout) for error in errors]
        # Files by id and records by number: both are ascending positions here.
        assert rows == sorted(rows)
        assert failed == sorted(failed)
        assert sorted(rows + failed) == [position_of(ref.id, layout) for ref in refs]
        assert set(failed) == {at for at in rows + failed if at in layout.problems}
        for error, at in zip(errors, failed, strict=True):
            is_record = at >= COUNT - layout.records
            assert error["error_type"] == PROBLEMS[layout.problems[at]][is_record]
        vectors = table["feature_vector"].combine_chunks().flatten().to_numpy()
        vectors = vectors.reshape(-1, expected.shape[1])
        np.testing.assert_allclose(vectors, expected[rows], rtol=tolerance, atol=tolerance)
        seen += rows + failed
    assert sorted(seen) == list(range(COUNT))


def compute_shard(shard: Shard, batch_size: int, output: pathlib.Path) -> Part:
    writer: PartWriter | None = None
    for images in decode_shard(shard, SPEC, batch_size):
        writer = writer or PartWriter(str(output), PIXELS_FORMAT, images.place)
        writer.append(infer(images, pixels_as_features))
    assert writer is not None
    return writer.commit()


@hypothesis.settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(layout=layouts)
@hypothesis.example(layout=Layout(9, 2, 0, {0: "empty", 1: "missing", 999: "truncated"}, 1))
@hypothesis.example(layout=Layout(2000, 2000, 1000, {}, 2))
@hypothesis.example(layout=Layout(70, 32, 400, dict.fromkeys(range(COUNT), "missing"), 3))
def test_a_thousand_images_are_each_there_once_however_they_are_grouped(
    corpus: Corpus, tmp_path_factory: pytest.TempPathFactory, layout: Layout
) -> None:
    directory = tmp_path_factory.mktemp("layout")
    refs = list_refs(corpus, layout, directory)
    shards = group_into_shards(refs, layout.rows_per_file)
    shuffled = random.Random(layout.order).sample(refs, COUNT)
    assert group_into_shards(shuffled, layout.rows_per_file) == shards
    committed = [compute_shard(shard, layout.batch_size, directory / "out") for shard in shards]
    expected = pixels_as_features(corpus.images)
    assert_all_is_well(directory / "out", committed, shards, layout, expected)


@pytest.mark.parametrize(
    "layout",
    [
        Layout(90, 7, 300, problems_of_runs([(5, 1, "empty"), (600, 250, "truncated")]), 4),
        Layout(333, 64, 0, {at: list(PROBLEMS)[at % 4] for at in range(0, COUNT, 3)}, 5),
    ],
    ids=["files and records", "every third"],
)
def test_a_thousand_images_through_a_pipeline_are_each_there_once(
    corpus: Corpus, tmp_path: pathlib.Path, tiny_model: pathlib.Path, layout: Layout
) -> None:
    import tensorflow as tf

    shards = group_into_shards(list_refs(corpus, layout, tmp_path), layout.rows_per_file)
    pointers = write_plan(shards, str(tmp_path / "plan"), "p")
    out = tmp_path / "out"
    options = PipelineOptions([])
    with beam.Pipeline(runner=runners.direct.create(options), options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create(pointers)
            | DecodeShards(SPEC, layout.batch_size)
            | InferFeatures(ModelSource(str(tiny_model)))
            | CommitParts(str(out), PIXELS_FORMAT)
        )
    committed = [read_part(str(path)) for path in sorted(out.glob("part-*.parquet"))]
    expected = tf.saved_model.load(str(tiny_model))(corpus.images).numpy()
    assert_all_is_well(out, committed, shards, layout, expected, tolerance=1e-5)
