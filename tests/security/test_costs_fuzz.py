"""Whatever reads what comes from outside, fed with mutations of it: no crash, hang or hunger."""

from __future__ import annotations

import functools
import gzip
import io
import json
import pathlib
import random
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.output.directory import Output
from pipeline.output.journal import read_journal
from tests.helpers.encoded_images import animated, image, png_chunk, saved
from tests.helpers.fuzzing import JSON_TOKENS, fuzz, mutated, mutated_text
from tests.helpers.soak import usual_or_soak
from tests.security.test_costs_records import BYTES, INTS, example, field, length_header, record
from transforms import storage
from transforms.dataset.part import FOOTER_KEY, read_part
from transforms.errors import ImageError, Parameter, RecordError, UserError
from transforms.images import png
from transforms.images.decode import decode_image
from transforms.images.headers import read_header
from transforms.images.spec import ImageSpec
from transforms.inputs import tfrecord, tfrecord_file
from transforms.inputs.large_examples import with_features
from transforms.inputs.patterns import FoundFile
from transforms.models import archives, keras_members, trust
from transforms.models.archives import ArchiveError, Limits

MIB = 2**20


# Image headers


@functools.cache
def encoded() -> list[bytes]:
    picture = image(24, 16)
    profile = b"\xff\xe2\0\x20ICC_PROFILE\0" + bytes(18)
    jpeg = saved(picture, "JPEG")
    return [
        jpeg,
        jpeg[:2] + profile + b"\xff\xfe\0\4ab" + jpeg[2:],
        saved(picture, "JPEG", progressive=True),
        saved(picture, "PNG", dpi=(72, 72)),
        saved(picture, "GIF"),
        animated("GIF")(24, 16),
        animated("WEBP", duration=40)(24, 16),
        saved(picture, "WEBP"),
        saved(picture, "WEBP", lossless=True),
        saved(picture, "BMP"),
        saved(picture.convert("L"), "BMP"),
    ]


def image_header(chance: random.Random, _: pathlib.Path) -> bool:
    data = mutated(chance.choice(encoded()), chance, encoded())
    if (
        data.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")
        and len(data) > 33
        and chance.random() < 0.5
    ):
        data = data[:8] + png_chunk(b"IHDR", data[16:29]) + data[33:]
    try:
        header = read_header(data)
        if header.format == "PNG":
            without = png.without_notes(data)
            assert len(without) <= len(data)
            assert png.without_notes(without) == without
        if header.format == "WebP" and header.animated:  # the only one without TensorFlow
            decode_image(data, ImageSpec(8, 8, max_pixels=100_000))
    except ImageError as error:
        assert str(error)
        return False
    return True


# TFRecord files


def records() -> list[bytes]:
    return [
        example(image=(BYTES, field(1, bytes(40))), label=(INTS, field(1, b"\1\2"))),
        b"",
        bytes(300),
        example(name=(BYTES, field(1, b"a"))),
    ]


def tfrecord_of(chance: random.Random, directory: pathlib.Path) -> bool:
    data = bytearray(b"".join(map(record, chance.choices(records(), k=chance.choice([1, 4, 40])))))
    if chance.random() < 0.5:
        at = chance.randrange(len(data))
        length = chance.choice([0, 5, 2**16, 2**31, 2**39, 2**40, 2**63, 2**64 - 1])
        data[at : at + 12] = length_header(length)
    pack = chance.choice([bytes, gzip.compress, zlib.compress])
    packed = pack(data if chance.random() < 0.5 else mutated(bytes(data), chance, [bytes(data)]))
    if chance.random() < 0.5:
        packed = mutated(packed, chance, [gzip.compress(record(b"a")), packed])
    path = directory / "a.tfrecord"
    path.write_bytes(packed)
    found = storage.find(str(path))
    assert found is not None
    file = FoundFile(str(path), found.size, found.version, path=str(path))
    refs = tfrecord.list_refs(file, None).refs
    good = True
    for read in tfrecord_file.read_records(str(path), [r for r in refs if r.is_record], MIB):
        assert isinstance(read, (bytes, ImageError)), repr(read)
        good = good and isinstance(read, bytes)
    return good


def large_example(chance: random.Random, _: pathlib.Path) -> bool:
    data = mutated(chance.choice(records()), chance, records())
    try:
        kept = with_features(data * chance.choice([1, 1, 8 * MIB // max(1, len(data))]), {"image"})
    except RecordError:
        return False
    return kept is not None


# Archives


@functools.cache
def tars() -> list[bytes]:
    found = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form, pax_headers={"a": "b"}) as tar:
            for name, kind in (
                *(("saved_model.pb", tarfile.REGTYPE), ("long/" * 30 + "name", tarfile.REGTYPE)),
                *(("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("d", tarfile.DIRTYPE)),
            ):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "saved_model.pb"
                info.size = 700 if kind == tarfile.REGTYPE else 0
                if form == tarfile.PAX_FORMAT:
                    info.pax_headers = {"comment": "x" * 100, "size": str(info.size)}
                tar.addfile(info, io.BytesIO(bytes(info.size)))
        found.append(buffer.getvalue())
    return found


def with_checksums(data: bytes) -> bytes:
    """A header with a number in it becomes one again that fits its checksum."""
    changed = bytearray(data)
    for at in range(0, len(data) - 511, 512):
        block = changed[at : at + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            changed[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    return bytes(changed)


def tar(chance: random.Random, directory: pathlib.Path) -> bool:
    data = mutated(chance.choice(tars()), chance, tars())
    if chance.random() < 0.8:
        data = with_checksums(data)
    if chance.random() < 0.3:
        data = gzip.compress(data, 1)
        data = mutated(data, chance, [data]) if chance.random() < 0.5 else data
    path, tree = directory / "a.tar", directory / "tree"
    path.write_bytes(data)
    try:
        archives.unpack(str(path), str(tree), Limits(free_bytes=MIB, max_members=100))
        return True
    except (ArchiveError, OSError) as error:
        assert str(error)
        return False
    finally:
        shutil.rmtree(tree, ignore_errors=True)
        assert {entry.name for entry in directory.iterdir()} == {"seed", "a.tar"}


# .keras files


@functools.cache
def keras_config() -> str:
    layer = {"module": "keras.layers", "class_name": "Conv2D", "config": {"name": "a", "x": [1]}}
    layer["registered_name"] = None  # type: ignore[assignment]
    return json.dumps({"class_name": "Functional", "config": {"layers": [layer] * 3}})


def written(path: pathlib.Path, data: bytes, chance: random.Random) -> pathlib.Path:
    """A file of these bytes, or of what half of the time is made of them."""
    path.write_bytes(mutated(data, chance, [data]) if chance.random() < 0.5 else data)
    return path


def keras_file(chance: random.Random, directory: pathlib.Path) -> bool:
    config, metadata = keras_config(), '{"keras_version": "3.9.0"}'
    if chance.random() < 0.7:
        config = mutated_text(config, chance, JSON_TOKENS)
        metadata = mutated_text(metadata, chance, JSON_TOKENS)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", chance.choice([0, 8, 8, 12, 14])) as archive:
        archive.writestr("config.json", config)
        archive.writestr("metadata.json", metadata)
    path = written(directory / "a.keras", buffer.getvalue(), chance)
    try:
        trust.check_keras_file(str(path))
        keras_members.read_json(str(path), "metadata.json", Parameter("model", "a"))
        return True
    except UserError as error:
        assert len(str(error)) < 1000
        return False


# What lies in an output directory


@functools.cache
def footer() -> str:
    return json.dumps(
        {
            "shard": "d14556e424713258",
            "rows": 2,
            "errors": 1,
            "format_version": 1,
            "errors_file": "d14556e424713258-0a0b0c0d.parquet",
            "seconds": {"read": 1.5},
            "fingerprint": {"model": "a"},
            "versions": {"numpy": "2"},
            "warnings": {"jpeg": 1},
        }
    )


def part(chance: random.Random, directory: pathlib.Path) -> bool:
    text = footer()
    if chance.random() < 0.6:
        text = mutated_text(text, chance, JSON_TOKENS)
    table = pa.table({"id": ["a", "b"], "feature_vector": [[1.0], [2.0]]})
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({FOOTER_KEY: text.encode("utf-8", "replace")}), buffer
    )
    path = written(directory / "part-d14556e424713258.parquet", buffer.getvalue(), chance)
    try:
        read_part(str(path))
        return True
    except ValueError as error:
        assert str(path) in str(error)
        return False
    except OSError:
        return False


def journal(chance: random.Random, directory: pathlib.Path) -> bool:
    text = json.dumps(
        {
            "generation": 3,
            "moves": [["_staging/part-d14556e424713258.parquet", "part-d14556e424713258.parquet"]],
            "removes": ["part-fa8b9f0f5667b067.parquet"],
            "previous": "_previous/3-1764180000",
        }
    )
    if chance.random() < 0.9:
        text = mutated_text(text, chance, JSON_TOKENS)
    data = text.encode()
    if chance.random() < 0.3:
        data = mutated(data, chance, [data])
    (directory / "_publish.json").write_bytes(data)
    try:
        read_journal(Output(str(directory)))
        return True
    except UserError as error:
        assert str(error)
        return False


CASES: dict[str, tuple[Callable[[random.Random, pathlib.Path], bool], int]] = {
    "image header": (image_header, 64 * MIB),
    "TFRecord": (tfrecord_of, 128 * MIB),
    "large Example": (large_example, 128 * MIB),
    "tar": (tar, 64 * MIB),
    ".keras": (keras_file, 128 * MIB),
    "part": (part, 128 * MIB),
    "journal": (journal, 64 * MIB),
}


@pytest.mark.parametrize("subject", CASES)
def test_no_mutation_crashes_hangs_or_takes_much(tmp_path: pathlib.Path, subject: str) -> None:
    try_case, more_bytes = CASES[subject]
    found = fuzz(subject, try_case, tmp_path, usual_or_soak(5.0, 3600 / len(CASES)), more_bytes)
    print(f"{subject}: {found}")
    assert 0 < found.accepted < found.cases  # neither harmless nor hopeless
