"""TFRecord files that are small and would cost much: error rows, within memory and time."""

from __future__ import annotations

import gzip
import pathlib
import struct
from collections.abc import Iterator

import pytest

from tests.helpers.limits import within_limits
from transforms import storage
from transforms.errors import RecordError
from transforms.inputs import examples, record_search, tfrecord, tfrecord_file
from transforms.inputs.encoded import ListedFile
from transforms.inputs.examples import ExampleSpec, parse_example
from transforms.inputs.kept import KeptColumn
from transforms.inputs.large_examples import OverlongListError, with_features
from transforms.inputs.listing import list_images
from transforms.inputs.patterns import FoundFile
from transforms.refs import ImageRef

MIB = 2**20


def length_header(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", record_search.masked_crc(packed))


def record(data: bytes) -> bytes:
    return length_header(len(data)) + data + struct.pack("<I", record_search.masked_crc(data))


def varint(value: int) -> bytes:
    written = b""
    while value > 127:
        written, value = written + bytes([value & 127 | 128]), value >> 7
    return written + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


BYTES, FLOATS, INTS = 1, 2, 3


def example(**features: tuple[int, bytes]) -> bytes:
    """A serialised tf.Example: of each feature the kind, and its list as it is serialised."""
    entries = [
        field(1, field(1, name.encode()) + field(2, field(kind, content)))
        for name, (kind, content) in features.items()
    ]
    return field(1, b"".join(entries))


def packed_gzip(tmp_path: pathlib.Path, head: bytes, part: bytes, times: int) -> str:
    path = tmp_path / "a.tfrecord.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(times):
            file.write(part)
    return str(path)


def listed(path: str, id_key: str | None = None, max_bytes: int = 2**28) -> ListedFile:
    found = storage.find(path)
    assert found is not None
    file = FoundFile(path, found.size, found.version, path=path)
    return tfrecord.list_refs(file, None, id_key, max_bytes)


def read(refs: list[ImageRef], max_bytes: int = 2**28) -> list[str]:
    """What is wrong with each."""
    return [str(found) for found in tfrecord_file.read_records(refs[0].uri, refs, max_bytes)]


def test_empty_records_do_not_fill_the_memory(tmp_path):
    """130 kB were 4.2 million refs, 1.7 GB; here 300,000 of them would take 120 MB."""
    path = packed_gzip(tmp_path, b"", record(b"") * 10_000, 30)
    found = within_limits(listed, path, more_bytes=48 * MIB)
    assert len(found.refs) == 2**14 + 1 and found.lost == (300_000 - 2**14) * 16
    [told] = within_limits(read, found.refs[-1:])
    assert told == (
        "record 16384 at byte 262144 is one of more than 16,384, one for each 32 bytes of the file "
        "as it is stored: it is not read, nor are those that follow"
    )


def test_as_many_records_as_images_have_room_are_listed(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(record(bytes(16)) * 20_000)
    assert len(within_limits(listed, str(path)).refs) == 20_000


@pytest.mark.parametrize("id_key", [None, "name"])
def test_a_record_beyond_what_images_pack_to_is_told(tmp_path, id_key):
    """7 MB with one of 1.5 GB took 2.3 GB, whatever --max_file_bytes; here 1.3 MB with 300 MB."""
    path = packed_gzip(tmp_path, length_header(300 * MIB), bytes(MIB), 300)
    found = within_limits(listed, path, id_key, more_bytes=32 * MIB)
    assert [(ref.size, ref.offset) for ref in found.refs] == [(None, 0)]
    [told] = within_limits(read, found.refs, more_bytes=32 * MIB)
    assert told == (
        "record 0 at byte 0 is in a damaged part of the compressed stream: it becomes more than "
        "268,435,456 bytes, and more than 100 times its size, as no images do; decompress it"
    )


def test_a_record_over_the_limit_is_not_read_for_its_id(tmp_path):
    data = bytes(100 * MIB)
    path = packed_gzip(tmp_path, record(data), b"", 1)
    [ref] = within_limits(listed, path, "name", MIB, more_bytes=32 * MIB).refs
    assert ref.id == f"{path}#0" and ref.problem is None
    [told] = within_limits(read, [ref], MIB, more_bytes=32 * MIB)
    assert told == "record 0 at byte 0 has 104857600 bytes, over max_file_bytes 1048576"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (INTS, field(1, b"\1" * 20 * MIB)),
        (INTS, b"\x08\1" * 50_000 + field(1, b"\1" * 20 * MIB)),
        (FLOATS, field(1, bytes(20 * MIB))),
        (BYTES, field(1, b"") * 90_000 + field(1, bytes(20 * MIB))),
    ],
    ids=["numbers", "numbers one by one", "floats", "strings"],
)
def test_an_id_of_many_values_is_none(tmp_path, kind, content):
    """210 MB of numbers took 5.8 GB; here 20 MB, which took 700 MB."""
    path = packed_gzip(tmp_path, record(example(id=(kind, content))), b"", 1)
    [ref] = within_limits(listed, path, "id", more_bytes=96 * MIB).refs
    assert ref.problem == (
        "record 0 has no single UTF-8 or int64 id of at most 4,096 bytes in feature 'id'"
    )


def test_an_id_is_no_book(tmp_path):
    """Ids are held for all images at once, and in each part."""
    ids = [b"i" * 4096, b"i" * 4097]
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"".join(record(example(id=(BYTES, field(1, one)))) for one in ids))
    first, second = listed(str(path), "id").refs
    assert first.id == "i" * 4096
    assert "of at most 4,096 bytes" in second.problem


IMAGE = b"\xff\xd8\xff" + bytes(3 * MIB)
SPEC = ExampleSpec(keep=(KeptColumn("label", "int64"),))


def parsed(data: bytes, spec: ExampleSpec = SPEC) -> tuple[bytes, tuple[object, ...]]:
    found = parse_example(data, spec)
    return found.image[:3], found.kept


def test_features_that_nobody_asks_for_are_not_unpacked():
    many = {f"other{n}": (INTS, field(1, b"\1" * 4 * MIB)) for n in range(5)}
    data = example(**{"image/encoded": (BYTES, field(1, IMAGE))}, label=(INTS, b"\x08\7"), **many)
    assert with_features(data, {"image/encoded", "label"}) == example(
        **{"image/encoded": (BYTES, field(1, IMAGE))}, label=(INTS, b"\x08\7")
    )
    assert parsed(data) == (IMAGE[:3], (7,))


@pytest.mark.parametrize("name", ["image/encoded", "label"])
def test_a_feature_that_is_asked_for_is_no_list_of_millions(name):
    features = {
        "image/encoded": (BYTES, field(1, IMAGE)),
        "label": (INTS, b"\x08\7"),
        name: (INTS, field(1, b"\1" * 20 * MIB)),
    }
    told = rf"feature '{name}' is a list of 20,971,5\d\d bytes, over 1,048,576"
    with pytest.raises(OverlongListError, match=told):
        within_limits(with_features, example(**features), {"image/encoded", "label"})
    with pytest.raises(RecordError, match=told):
        parse_example(example(**features), SPEC)


def test_an_example_of_millions_of_parts_is_refused():
    for parts in (field(2, b"") * 10 * MIB, example(a=(BYTES, b"")) * 2 * MIB):
        with pytest.raises(RecordError, match="more than 100,000 parts"):
            within_limits(with_features, parts, {"image/encoded"}, seconds=5)


def test_a_large_example_is_what_protobuf_makes_of_it():
    features = {
        "image/encoded": (BYTES, field(1, IMAGE)),
        "label": (INTS, b"\x08\7"),
        "boxes": (FLOATS, field(1, struct.pack("<4f", 1, 2, 3, 4))),
    }
    data = example(**features)
    assert with_features(data, {"image/encoded"}) is data
    assert with_features(data[:-1], {"image/encoded"}) is None
    spec = ExampleSpec(keep=(KeptColumn("boxes", "float32", is_list=True),))
    # Of a name that is there twice protobuf takes the last.
    twice = data + example(label=(INTS, b"\x08\x09"))
    assert parsed(twice) == (IMAGE[:3], (9,))
    assert parsed(data, spec) == (IMAGE[:3], ([1, 2, 3, 4],))


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 2**39], ids=hex)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_length_beyond_any_file_is_damage(tmp_path, length, pack):
    """A file of 45 bytes ended the job with a traceback."""
    path = tmp_path / "a.tfrecord"
    path.write_bytes(pack(length_header(length) + b"x"))
    for id_key in (None, "name"):
        found = within_limits(listed, str(path), id_key)
        assert [(ref.offset, ref.size) for ref in found.refs] == [(0, None)]
        assert found.lost == 13
    [told] = within_limits(read, found.refs)
    assert told.startswith("record 0 at byte 0 ")


def test_after_a_length_beyond_any_file_the_next_record_is_found(tmp_path):
    path = tmp_path / "a.tfrecord.gz"
    path.write_bytes(gzip.compress(length_header(2**64 - 1) + record(b"abc") * 2))
    assert [(ref.offset, ref.size) for ref in listed(str(path)).refs] == [
        *((0, None), (12, 3), (31, 3))
    ]


def test_damage_in_each_record_costs_what_damage_in_one_does(tmp_path):
    """Each search looked at 256 KiB at least: half a megabyte with 1,000 took 20 s."""
    good, bad = record(b"abcd"), record(b"efgh")
    path = tmp_path / "a.tfrecord"
    path.write_bytes((good + b"\xff" + bad[1:] + bytes(500)) * 2000 + good)
    found = within_limits(listed, str(path), seconds=15)
    assert [ref.size for ref in found.refs] == [4, None] * 2000 + [4]


def counted(directory: str) -> int:
    examples.example_features = lambda record, names: {}  # no TensorFlow, which reads the rest
    return len(list_images([directory], id_key="name").refs)


def large_examples() -> Iterator[bytes]:
    for number in range(4):
        yield example(
            image=(BYTES, field(1, bytes(30 * MIB))), name=(BYTES, field(1, b"%d" % number))
        )


def test_large_records_of_several_files_are_read_for_their_ids_one_at_a_time(tmp_path):
    """Eight threads list files: eight times what one record takes."""
    for number, data in enumerate(large_examples()):
        with gzip.open(tmp_path / f"{number}.tfrecord", "wb", compresslevel=1) as file:
            file.write(record(data))
    assert within_limits(counted, str(tmp_path), more_bytes=400 * MIB) == 4
