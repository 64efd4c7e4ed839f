"""TFRecord files: every record is found, damage costs what it must and no more."""

from __future__ import annotations

import gzip
import io
import itertools
import pathlib
import random
import struct
import zlib
from collections.abc import Callable

import google_crc32c
import pytest

from tests.helpers.records import HEADER, TRAILER, example, starts, write_records
from transforms.errors import ImageTooLargeError, RecordError
from transforms.inputs import tfrecord_file
from transforms.inputs.examples import Example, ExampleSpec, example_ids, parse_example
from transforms.inputs.kept import KeptColumn
from transforms.inputs.record_search import Effort, find_record
from transforms.refs import ImageRef

ANY_SIZE = 2**31


# Building files


def payloads(count: int, size: int = 300) -> list[bytes]:
    """Records of different lengths that do not compress."""
    chance = random.Random(count)
    return [chance.randbytes(size + 7 * number) for number in range(count)]


def flip(path: str, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def refs_of(path: str) -> list[ImageRef]:
    return [
        ImageRef(f"{path}#{index}", path, "", place.length, index, place.offset)
        for index, place in enumerate(tfrecord_file.scan(path))
    ]


def read_all(path: str, max_bytes: int = ANY_SIZE) -> list[bytes | Exception]:
    return list(tfrecord_file.read_records(path, refs_of(path), max_bytes))


def good(results: list[bytes | Exception]) -> list[bytes]:
    return [result for result in results if isinstance(result, bytes)]


def errors(results: list[bytes | Exception]) -> list[Exception]:
    return [result for result in results if isinstance(result, Exception)]


# Finding records


COMPRESSIONS = ("", "GZIP", "ZLIB")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_record_is_found_and_read(tmp_path: pathlib.Path, compression: str):
    records = [*payloads(20), b"", b"x"]
    path = write_records(tmp_path / "a.tfrecord", records, compression)
    expected = [(at, len(record), 0) for at, record in zip(starts(records), records, strict=True)]
    assert list(tfrecord_file.scan(path)) == expected
    assert read_all(path) == records


@pytest.mark.parametrize(
    ("name", "compression"),
    [
        ("a.tfrecord.gz", "GZIP"),
        ("a.tfrecord", "GZIP"),
        ("a.tfrecord.gz", ""),
        ("a", "GZIP"),
        ("a.tfrecord", "ZLIB"),
        ("a.tfrecord.gz", "ZLIB"),
    ],
)
def test_the_bytes_say_how_a_file_is_compressed_not_its_name(
    tmp_path: pathlib.Path, name: str, compression: str
):
    records = payloads(5)
    assert read_all(write_records(tmp_path / name, records, compression)) == records


@pytest.mark.parametrize("magic", [b"\x1f\x8b", b"\x78\x9c"])
def test_a_plain_record_as_long_as_a_magic_number_is_not_taken_for_compressed(
    tmp_path: pathlib.Path, magic: bytes
):
    records = [bytes(int.from_bytes(magic, "little")), b"x"]
    path = write_records(tmp_path / "a.tfrecord", records)
    assert pathlib.Path(path).read_bytes().startswith(magic)
    assert read_all(path) == records


def test_a_damaged_length_that_looks_like_zlib_is_a_damaged_length(tmp_path: pathlib.Path):
    records = [bytes(0x9C78), *payloads(3)]
    path = write_records(tmp_path / "a.tfrecord", records)
    flip(path, 8)
    first, *others = read_all(path)
    assert "damaged length" in str(first)
    assert others == records[1:]


@pytest.mark.parametrize("padding", [b"", bytes(7), bytes(200_000)])
@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
def test_several_compressed_streams_are_one_file(
    tmp_path: pathlib.Path, compression: str, padding: bytes
):
    first = write_records(tmp_path / "a", payloads(3), compression)
    second = write_records(tmp_path / "b", [b"", *payloads(4), bytes(300_000)], compression)
    both = tmp_path / "both.tfrecord.gz"
    parts = [pathlib.Path(path).read_bytes() for path in (first, second)]
    both.write_bytes(padding.join([*parts, b""]))
    assert read_all(str(both)) == [*payloads(3), b"", *payloads(4), bytes(300_000)]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_empty_file_has_no_records(tmp_path: pathlib.Path, compression: str):
    assert list(tfrecord_file.scan(write_records(tmp_path / "a.tfrecord", [], compression))) == []


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_reading_may_start_in_the_middle_and_leave_records_out(
    tmp_path: pathlib.Path, compression: str
):
    records = payloads(12, size=9000)
    path = write_records(tmp_path / "a.tfrecord", records, compression)
    refs = refs_of(path)
    middle = list(tfrecord_file.read_records(path, refs[5:9], ANY_SIZE))
    assert middle == records[5:9]
    every_third = list(tfrecord_file.read_records(path, refs[1::3], ANY_SIZE))
    assert every_third == records[1::3]


def test_a_missing_file_is_one_error_for_each_of_its_records(tmp_path: pathlib.Path):
    path = write_records(tmp_path / "a.tfrecord", payloads(3))
    refs = refs_of(path)
    pathlib.Path(path).unlink()
    results = list(tfrecord_file.read_records(path, refs, ANY_SIZE))
    assert [type(result) for result in results] == [FileNotFoundError] * 3


def test_the_checksum_is_the_one_that_tensorflow_writes(tmp_path: pathlib.Path):
    records = [b"", b"\0", *payloads(5), bytes(100_000)]
    data = pathlib.Path(write_records(tmp_path / "a.tfrecord", records)).read_bytes()
    for start, record in zip(starts(records), records, strict=True):
        (of_length,) = struct.unpack_from("<I", data, start + 8)
        (of_data,) = struct.unpack_from("<I", data, start + HEADER + len(record))
        assert tfrecord_file.masked_crc(data[start : start + 8]) == of_length
        assert tfrecord_file.masked_crc(record) == of_data
    assert google_crc32c.implementation == "c"  # the other one takes seconds for a photo


# Damage


@pytest.mark.parametrize("place", ["first byte", "last byte", "checksum"])
def test_damaged_data_costs_one_record(tmp_path: pathlib.Path, place: str):
    records = payloads(5)
    path = write_records(tmp_path / "a.tfrecord", records)
    data_start, data_end = starts(records)[2] + HEADER, starts(records)[3] - TRAILER
    flip(path, {"first byte": data_start, "last byte": data_end - 1, "checksum": data_end}[place])
    results = read_all(path)
    assert results[:2] + results[3:] == records[:2] + records[3:]
    assert isinstance(results[2], RecordError)
    assert "record 2" in str(results[2])
    assert "checksum" in str(results[2])


PACK = {"": (bytes, bytes), "GZIP": (gzip.compress, gzip.decompress)}
PACK["ZLIB"] = (zlib.compress, zlib.decompress)


def rewritten(path: str, compression: str, change: Callable[[bytearray], None]) -> str:
    """The file with its decompressed bytes changed."""
    pack, unpack = PACK[compression]
    data = bytearray(unpack(pathlib.Path(path).read_bytes()))
    change(data)
    pathlib.Path(path).write_bytes(pack(bytes(data)))
    return path


def gaps(path: str) -> list[tuple[int, int]]:
    """Offset and bytes of each place that has no record."""
    return [(place.offset, place.lost) for place in tfrecord_file.scan(path) if place.lost]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("byte", range(HEADER))
def test_a_damaged_length_costs_its_record_and_says_where(
    tmp_path: pathlib.Path, byte: int, compression: str
):
    records = payloads(5)
    at, after = starts(records)[2:4]

    def change(data: bytearray) -> None:
        data[at + byte] ^= 0x10

    path = rewritten(
        write_records(tmp_path / "a.tfrecord", records, compression), compression, change
    )
    results = read_all(path)
    assert results[:2] + results[3:] == records[:2] + records[3:]
    assert isinstance(results[2], RecordError)
    assert f"record 2 at byte {at} has a damaged length" in str(results[2])
    assert gaps(path) == [(at, after - at)]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("damaged", [[0], [4], [1, 2], [0, 2, 4], [0, 1, 2, 3], [0, 1, 2, 3, 4]])
def test_several_damaged_lengths(tmp_path: pathlib.Path, damaged: list[int], compression: str):
    """Each record whose own length is whole is found; between damaged ones there is one gap."""
    records = payloads(5)
    at = starts(records)

    def change(data: bytearray) -> None:
        for number in damaged:
            data[at[number] + 9] ^= 0x10

    path = rewritten(
        write_records(tmp_path / "a.tfrecord", records, compression), compression, change
    )
    results = read_all(path)
    assert good(results) == [r for number, r in enumerate(records) if number not in damaged]
    runs = [number for number in damaged if number - 1 not in damaged]
    assert [offset for offset, _ in gaps(path)] == [at[number] for number in runs]
    lost = sum(HEADER + len(records[number]) + TRAILER for number in damaged)
    assert sum(size for _, size in gaps(path)) == lost


@pytest.mark.parametrize("what", ["missing", "too many", "zeros"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_bytes_that_are_missing_or_too_many_cost_what_they_hit(
    tmp_path: pathlib.Path, compression: str, what: str
):
    records = payloads(9, size=2000)
    at = starts(records)

    def change(data: bytearray) -> None:
        if what == "missing":
            del data[at[3] + 500 : at[3] + 900]
        elif what == "too many":
            data[at[3] + 500 : at[3] + 500] = b"\0" * 777
        else:
            data[at[3] + 500 : at[5] + 100] = bytes(at[5] + 100 - at[3] - 500)

    path = rewritten(
        write_records(tmp_path / "a.tfrecord", records, compression), compression, change
    )
    results = read_all(path)
    if what == "zeros":
        assert results[:3] + results[4:] == records[:3] + records[6:]
        assert gaps(path) == [(at[3], at[6] - at[3])]
    else:
        assert results[:3] + results[4:] == records[:3] + records[4:]
        assert gaps(path)[0][0] == at[3]
    assert isinstance(results[3], RecordError)
    assert "record 3 at byte" in str(results[3])


@pytest.mark.parametrize("compression", ["", "ZLIB"])
@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_to_a_file_each_record_that_is_left_whole_is_read(
    tmp_path: pathlib.Path, seed: int, compression: str
):
    """But for one that lies where the bytes that are missing before it make its end another's."""
    chance = random.Random(seed)
    records = [bytes([n]) + chance.randbytes(chance.choice([0, 1, 30, 400])) for n in range(12)]
    path = write_records(tmp_path / "a.tfrecord", records, compression)
    pack, unpack = PACK[compression]
    whole = unpack(pathlib.Path(path).read_bytes())
    pieces = [whole[at:end] for at, end in itertools.pairwise([*starts(records), len(whole)])]
    hit = chance.sample(range(12), chance.choice([1, 2, 4]))
    for number in hit:
        piece, at = pieces[number], chance.randrange(len(pieces[number]))
        to = chance.randrange(at + 1, len(piece) + 1)
        flipped = piece[:at] + bytes([piece[at] ^ 1 << chance.randrange(8)]) + piece[at + 1 :]
        shorter = piece[:at] + piece[to:]
        longer = piece[:at] + chance.randbytes(chance.choice([1, 9, 500])) + piece[at:]
        blank = piece[:at] + bytes(to - at) + piece[to:]
        pieces[number] = chance.choice([flipped, shorter, longer, blank])
    data = b"".join(pieces)
    pathlib.Path(path).write_bytes(pack(data))
    found = good(read_all(path))
    assert [record for record in records if record in found] == found
    assert {record for n, record in enumerate(records) if n not in hit} <= set(found)
    places = list(tfrecord_file.scan(path))
    sizes = [place.lost or HEADER + (place.length or 0) + TRAILER for place in places]
    assert [place.offset for place in places] == [sum(sizes[:n]) for n in range(len(places))]
    assert sum(sizes) == len(data)


def test_what_only_looks_like_a_header_is_not_taken_for_one(tmp_path: pathlib.Path):
    header = struct.pack("<Q", 40)
    header += struct.pack("<I", tfrecord_file.masked_crc(header))
    records = [b"a" * 300, (b"b" * 20 + header) * 50, b"c" * 300, b"d"]
    path = write_records(tmp_path / "a.tfrecord", records)
    flip(path, starts(records)[1])
    results = read_all(path)
    assert results[:1] + results[2:] == records[:1] + records[2:]


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_headers_that_promise_much_cost_no_more_than_they_may(
    tmp_path: pathlib.Path, compress: Callable[[bytes], bytes]
):
    """Each of 2,000 could make the search read the rest of the file."""
    header = struct.pack("<Q", 20_000)
    header += struct.pack("<I", tfrecord_file.masked_crc(header))
    path = tmp_path / "a.tfrecord"
    path.write_bytes(compress(b"\1" + (b"x" * 11 + header) * 2000))
    with tfrecord_file.open_records(str(path)) as file:
        effort = Effort(checked=100_000, returns=50)
        assert find_record(file, 0, None, effort) is None
        assert effort == Effort(checked=0, returns=0)
    [error] = read_all(str(path))
    assert isinstance(error, RecordError)


def test_a_search_finds_a_header_wherever_chunks_of_the_file_meet(tmp_path: pathlib.Path):
    path = pathlib.Path(write_records(tmp_path / "a.tfrecord", [b"data", b"more"]))
    records = path.read_bytes()
    for before in range(2**18 - 13, 2**18 + 2):
        with io.BytesIO(bytes(before) + records) as file:
            assert find_record(file, 1, None, Effort()) == before


def test_a_file_cut_anywhere_keeps_the_records_before_the_cut(tmp_path: pathlib.Path):
    records = payloads(3, size=20)
    whole = pathlib.Path(write_records(tmp_path / "whole.tfrecord", records)).read_bytes()
    last = starts(records)[2]
    for cut in range(last + 1, len(whole)):
        path = tmp_path / "cut.tfrecord"
        path.write_bytes(whole[:cut])
        results = read_all(str(path))
        assert results[:2] == records[:2]
        [error] = results[2:]
        assert isinstance(error, RecordError), cut
        assert f"record 2 at byte {last} is cut off" in str(error)
    path.write_bytes(whole[:last])
    assert read_all(str(path)) == records[:2]


def test_a_gzip_file_cut_anywhere_keeps_what_can_be_decompressed(tmp_path: pathlib.Path):
    records = payloads(30)
    whole = pathlib.Path(write_records(tmp_path / "a", records, "GZIP")).read_bytes()
    ends = [*starts(records)[1:], sum(len(r) + HEADER + TRAILER for r in records)]
    kept = []
    for cut in range(50, len(whole), 97):
        path = tmp_path / "cut.tfrecord.gz"
        path.write_bytes(whole[:cut])
        results = read_all(str(path))
        assert good(results) == records[: len(good(results))]
        [error] = errors(results)  # the cut itself is told, once
        assert isinstance(error, RecordError)
        assert f"record {len(good(results))} at byte" in str(error)
        assert 0 < gaps(str(path))[0][1] < sum(map(len, records)) + cut
        # Random bytes are stored as they are: what lies well before the cut must be there.
        assert len(good(results)) >= sum(end < cut - 300 for end in ends)
        kept.append(len(good(results)))
    assert kept == sorted(kept)
    assert kept[-1] >= 28


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
def test_damage_in_a_compressed_file_is_an_error_and_never_wrong_data(
    tmp_path: pathlib.Path, compression: str
):
    records = payloads(30)
    path = write_records(tmp_path / "a.tfrecord.gz", records, compression)
    flip(path, pathlib.Path(path).stat().st_size // 2)
    results = read_all(path)
    assert errors(results)
    assert {type(error) for error in errors(results)} == {RecordError}
    assert set(good(results)) <= set(records)
    assert good(results)[:10] == records[:10]


@pytest.mark.parametrize(
    "content",
    [b"id,label\n1,cat\n" * 20, b"short", b"\x1f\x8b and no more gzip than that", bytes(5)],
)
def test_a_file_of_something_else_is_one_error(tmp_path: pathlib.Path, content: bytes):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    [error] = read_all(str(path))
    assert isinstance(error, RecordError)
    assert "record 0 at byte 0" in str(error)


def test_a_record_over_the_size_limit_is_not_read(tmp_path: pathlib.Path):
    records = [bytes(10), bytes(11), bytes(10)]
    path = write_records(tmp_path / "a.tfrecord", records)
    first, second, third = read_all(path, max_bytes=10)
    assert (first, third) == (records[0], records[2])
    assert isinstance(second, ImageTooLargeError)
    assert "record 1" in str(second)
    assert "11 bytes" in str(second)
    assert "over max_file_bytes 10" in str(second)


# Parsing Examples


def parse(record: bytes, *keep: KeptColumn) -> Example:
    return parse_example(record, ExampleSpec(keep=keep))


def test_the_image_is_read_from_its_feature():
    assert parse(example(image=[b"one"], other=[1, 2])) == Example(b"one")
    assert parse_example(example(png=[b"two"]), ExampleSpec(image_key="png")) == Example(b"two")


UNUSABLE = {
    "no proto": (b"this is no tf.Example", "not a tf.Example"),
    "cut off": (example(image=[b"x" * 50])[:-20], "not a tf.Example"),
    "no image": (example(other=[b"x"]), "image/encoded"),
    "no features": (b"", "image/encoded"),
    "image of integers": (example(image=[1, 2]), "image/encoded"),
    "image of floats": (example(image=[0.5]), "image/encoded"),
    "two images": (example(image=[b"x", b"y"]), "holds 2 images"),
    "no image in its feature": (example(image=[]), "image/encoded"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_example_is_an_error_that_says_why(name: str):
    record, why = UNUSABLE[name]
    with pytest.raises(RecordError, match=why):
        parse(record)


# Ids


def test_ids_are_read_with_the_places_of_their_records(tmp_path: pathlib.Path):
    records = [
        example(id=["Zürich".encode()]),
        example(id=[-5]),
        example(other=[1]),
        example(id=[b"a", b"b"]),
        example(id=[b"caf\xe9"]),
        example(id=[0.5]),
        b"no proto",
        example(id=[b"last"]),
    ]
    path = write_records(tmp_path / "a.tfrecord", records)
    found = list(example_ids(path, "id"))
    assert [place for place, _ in found] == list(tfrecord_file.scan(path))
    ids = [value for _, value in found]
    assert ids[:2] + ids[-1:] == ["Zürich", "-5", "last"]
    assert not any(ids[2:-1])


def test_ids_around_a_damaged_length_are_read(tmp_path: pathlib.Path):
    records = [example(id=[b"%d" % number]) for number in range(4)]
    path = write_records(tmp_path / "a.tfrecord", records)
    flip(path, starts(records)[2])
    ids = [value for _, value in example_ids(path, "id")]
    assert ids == ["0", "1", "", "3"]
