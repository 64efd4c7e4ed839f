"""Models that are small and would cost much: archives, `.keras` files, directories with links."""

from __future__ import annotations

import gzip
import io
import json
import os
import pathlib
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from tests.helpers.limits import within_limits
from transforms.errors import UserError
from transforms.machine import entries
from transforms.models import archives, source, trust
from transforms.models.archives import ArchiveError
from transforms.models.keras_file import open_keras_file
from transforms.models.source import ModelSource

MIB = 2**20


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT)


def extended(kind: bytes, content: bytes) -> bytes:
    """A header that says more of the next one."""
    return header("x", kind, len(content)) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def pax(**fields: str) -> bytes:
    """The content of a PAX header."""
    records = []
    for name, value in fields.items():
        rest = f" {name}={value}\n".encode()
        length = len(rest)
        while length != len(rest) + len(str(length)):
            length = len(rest) + len(str(length))
        records.append(str(length).encode() + rest)
    return b"".join(records)


def packed(tmp_path: pathlib.Path, *headers: bytes, times: int = 1) -> str:
    """A gzipped archive; the last part is repeated, without all of it being in memory."""
    path = tmp_path / "model.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for part in headers[:-1]:
            file.write(part)
        for _ in range(times):
            file.write(headers[-1])
        file.write(bytes(2 * tarfile.BLOCKSIZE))
    return str(path)


def refused(path: str, **limits: float) -> str:
    """Why it is not unpacked, told within limits."""
    with pytest.raises(ArchiveError) as info:
        within_limits(archives.unpack, path, f"{path}-tree", **limits)
    [line] = str(info.value).splitlines()
    assert len(line) < 1000
    return line


@pytest.mark.parametrize(
    "kind",
    [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE],
    ids=["long name", "long link", "PAX", "global PAX"],
)
def test_a_long_header_is_not_read(tmp_path, kind):
    """4 MB with a name of 900 MB took 6 GB; here 100 MB of name in half a megabyte."""
    path = packed(tmp_path, header("x", kind, 100 * MIB), b"x" * MIB, times=100)
    assert os.path.getsize(path) < MIB
    told = "after its beginning: a header of more than 65,536 bytes, as no model's archive has"
    assert refused(path, more_bytes=32 * MIB) == told


def test_a_header_after_a_member_is_not_read_either(tmp_path):
    long = header("x", tarfile.XHDTYPE, 100 * MIB)
    path = packed(tmp_path, header("first", size=3), b"abc".ljust(512), long, b"x" * MIB, times=99)
    assert refused(path, more_bytes=32 * MIB).startswith("after member 'first': a header of more")


def test_headers_that_nest_have_an_end(tmp_path):
    """Each is read in the call that reads the one before it."""
    path = packed(tmp_path, extended(tarfile.GNUTYPE_LONGNAME, b"n\0"), times=1000)
    assert "a header of more than 65,536 bytes" in refused(path)


def test_headers_without_content_that_nest_have_an_end(tmp_path):
    path = packed(tmp_path, header("x", tarfile.GNUTYPE_LONGNAME), times=1000)
    assert "header" in refused(path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE], ids=["PAX", "global PAX"])
def test_headers_of_all_members_together_have_a_limit(tmp_path, kind):
    """Each is within its own; a megabyte of notes takes seconds, and so does a kilobyte of gzip."""
    note = extended(kind, pax(**{f"k{number}": "v" for number in range(3000)}))
    path = packed(tmp_path, b"", note + header("link", tarfile.SYMTYPE, link="a"), times=2000)
    assert "bytes, far more than usual" in refused(path, more_bytes=32 * MIB)


def test_links_are_kept_without_their_headers(tmp_path):
    note = extended(tarfile.XHDTYPE, pax(**{f"k{number}": "v" for number in range(50)}))
    members = [note + header(f"l{n}", tarfile.SYMTYPE, link="a") for n in range(600)]
    path = packed(tmp_path, header("a"), b"".join(members))
    within_limits(archives.unpack, path, f"{path}-tree", more_bytes=4 * MIB)
    assert len(os.listdir(f"{path}-tree")) == 601


def test_headers_for_all_members_do_not_pile_up(tmp_path):
    """Each member gets a copy of them."""
    notes = b"".join(
        extended(tarfile.XGLTYPE, pax(**{f"k{number}": "v" * 30_000})) + header(f"f{number}")
        for number in range(10)
    )
    assert "the headers for all members have more than 65,536 bytes" in refused(
        packed(tmp_path, notes)
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a/" * 1500, "more than 100 directories deep"),
        ("a/" * 150, "more than 100 directories deep"),
        ("a/" * 20_000, "a name of more than 4,096 characters"),
    ],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_a_deep_path_is_refused(tmp_path, name, told, kind):
    """Directories are made by a function that calls itself for the one above."""
    long = extended(tarfile.GNUTYPE_LONGNAME, name.encode() + b"z\0")
    assert told in refused(packed(tmp_path, long, header("z", kind, link="a")))


def test_a_long_link_is_refused(tmp_path):
    long = extended(tarfile.GNUTYPE_LONGLINK, b"a/" * 3000 + b"\0")
    path = packed(tmp_path, long, header("z", tarfile.SYMTYPE))
    assert "a link of more than 4,096 characters" in refused(path)


@pytest.mark.parametrize(
    "fields",
    [{"size": "-1"}, {"GNU.sparse.map": "x", "GNU.sparse.size": "1"}, {"size": "9" * 30}],
    ids=["negative", "no number", "beyond any disk"],
)
def test_numbers_that_are_none_are_told(tmp_path, fields):
    path = packed(tmp_path, extended(tarfile.XHDTYPE, pax(**fields)), header("a"), bytes(1024))
    assert refused(path, seconds=10)


# .keras files


def keras_file(tmp_path: pathlib.Path, packing: int = zipfile.ZIP_DEFLATED, **members: str) -> str:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", packing, compresslevel=1) as archive:
        for name, content in {"config": "{}", "metadata": '{"keras_version": "3.9.0"}'}.items():
            archive.writestr(f"{name}.json", members.get(name, content))
        for name in members.keys() - {"config", "metadata"}:
            archive.writestr(name, members[name])
    return str(path)


def refusals(path: str, **limits: float) -> set[str]:
    """Why it is neither checked nor opened, whether it is trusted or not."""
    told = set()
    calls: list[tuple[Callable[..., object], object]] = [
        (open_keras_file, ModelSource(path)),
        (open_keras_file, ModelSource(path, trusted=True)),
    ]
    for function, argument in calls:
        with pytest.raises(UserError) as info:
            within_limits(function, argument, **limits)
        told.add(str(info.value).removeprefix(f"model {path}: "))
    return told


def test_metadata_is_not_parsed_if_it_is_large(tmp_path):
    """5 MB took 11 GB; here it is 60 kB, and takes 1 GB."""
    path = keras_file(tmp_path, metadata="[" + "[]," * (20 * MIB // 3) + "0]")
    assert os.path.getsize(path) < MIB
    told = "its metadata.json is larger than 65,536 bytes, which is too large for a model's"
    assert refusals(path, more_bytes=64 * MIB) == {told}


def test_a_configuration_is_not_parsed_if_it_is_large(tmp_path):
    """255 kB took 13 GB."""
    path = keras_file(tmp_path, config="[" + "[]," * (20 * MIB // 3) + "0]")
    told = "its config.json is larger than 16,777,216 bytes, which is too large for a model's"
    assert refusals(path, more_bytes=64 * MIB) == {told}
    with pytest.raises(UserError, match="too large"):
        within_limits(trust.check_keras_file, path, more_bytes=64 * MIB)


@pytest.mark.parametrize("value", ["[],", "{},", '{"":0},', "0,"])
def test_json_of_many_values_is_not_parsed(tmp_path, value):
    """Within the bytes that are allowed it would still take twenty times as many."""
    path = keras_file(tmp_path, config="[" + value * (15 * MIB // len(value)) + "0]")
    told = "its config.json holds more than 1,000,000 values, too many for a model's"
    assert refusals(path, more_bytes=64 * MIB) == {told}


def test_deep_json_is_told(tmp_path):
    path = keras_file(tmp_path, metadata='{"":' * 10_000)
    [told] = refusals(path)
    assert told.startswith("metadata.json is damaged: ")


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_of_any_ratio_is_not_unpacked(tmp_path, packing):
    """A kilobyte of bzip2 unpacks to a gigabyte in one piece, whatever is asked for."""
    path = keras_file(tmp_path, packing, config="0" * (15 * MIB))
    assert refusals(path, more_bytes=64 * MIB) == {
        "'config.json' in it is packed as no Keras packs"
    }


def test_a_member_whose_own_name_is_no_text_is_told(tmp_path):
    """An hour of fuzzing found it: the directory at the end has one name, the member another."""
    path = keras_file(tmp_path)
    data = bytearray(pathlib.Path(path).read_bytes())
    for place in (0, data.index(b"PK\3\4", 1)):  # both members' own headers
        data[place + 7] |= 0x08  # its name is UTF-8
        data[place + 30] = 0xAB
    pathlib.Path(path).write_bytes(data)
    [told] = refusals(path)
    assert told.startswith("cannot be read: 'utf-8' codec can't decode byte 0xab")


def with_sizes(path: str, member: str, size: int) -> str:
    """A zip archive that says of a member that it is so large."""
    data = bytearray(pathlib.Path(path).read_bytes())
    at = data.index(b"PK\1\2")
    while data[at + 46 : at + 46 + len(member)] != member.encode():
        at = data.index(b"PK\1\2", at + 1)
    data[at + 24 : at + 28] = size.to_bytes(4, "little")
    pathlib.Path(path).write_bytes(data)
    return path


def test_an_archive_that_fills_the_disk_is_not_unpacked(tmp_path):
    path = with_sizes(keras_file(tmp_path, **{"model.weights.h5": "0"}), "model.weights.h5", 2**31)
    [told] = refusals(path)
    assert "bytes, more than 1,073,741,824, as an archive does that is meant to fill" in told


def test_many_members_are_refused(tmp_path):
    path = keras_file(tmp_path, **{f"a{number}": "" for number in range(1001)})
    assert refusals(path) == {"more than 1,000 files in it"}


def test_a_configuration_of_a_large_model_is_no_small_part_of_what_is_allowed():
    """As Keras writes it: a layer has some twenty values."""
    layer = {"module": "keras.layers", "class_name": "Conv2D", "config": {"name": "a", "x": [1, 2]}}
    text = json.dumps({"layers": [layer] * 10_000})
    assert text.count(",") + text.count("{") + text.count("[") < 1_000_000


# Directories


def model_directory(tmp_path: pathlib.Path) -> pathlib.Path:
    model = tmp_path / "model"
    (model / "assets").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"")
    return model


def circles(model: pathlib.Path) -> None:
    for name in "ab":  # one link ends with the operating system's patience, two do not
        (model / "assets" / name).symlink_to(model, target_is_directory=True)


def doubled(model: pathlib.Path) -> None:
    """No circle: each directory has two links to the next one."""
    for number in range(40):
        below = model / f"d{number}"
        below.mkdir()
        for name in "ab":
            (below / name).symlink_to(model / f"d{number + 1}", target_is_directory=True)


def deep(model: pathlib.Path) -> None:
    path = str(model)
    for _ in range(200):
        path += "/a"
        os.mkdir(path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (circles, "by a link the directory contains itself"),
        (doubled, "more than 1,000 directories in"),
        (deep, "more than 100 directories deep"),
        (lambda model: os.mkfifo(model / "a"), "neither a file nor a directory"),
        (lambda model: (model / "a").symlink_to("/dev/zero"), "neither a file nor a directory"),
    ],
    ids=["circles", "doubled", "deep", "a FIFO", "a device"],
)
def test_a_directory_without_an_end_is_told(tmp_path, spoil, told):
    model = model_directory(tmp_path)
    spoil(model)
    for function in (source.files_sha256, source.files_state):
        with pytest.raises(UserError, match=f"^model {model}: cannot be read: {told}") as info:
            within_limits(function, ModelSource(str(model)), more_bytes=128 * MIB)
        assert len(str(info.value)) < 500 + len(str(tmp_path))
    with pytest.raises(OSError, match=told):
        within_limits(archives.pack, str(model), io.BytesIO(), more_bytes=128 * MIB)


def test_a_directory_with_links_to_its_files_is_as_before(tmp_path):
    model = model_directory(tmp_path)
    (model / "assets" / "words").write_bytes(b"a\n")
    (model / "more").symlink_to(model / "assets", target_is_directory=True)
    (model / "again").symlink_to(model / "saved_model.pb")
    assert [os.path.relpath(path, model) for path in entries.tree_files(str(model))] == [
        *("again", "assets/words", "more/words", "saved_model.pb")
    ]
