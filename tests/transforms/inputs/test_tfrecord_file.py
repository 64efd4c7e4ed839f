"""TFRecord files: every record is found, damage costs what it must and no more."""

from __future__ import annotations

import gzip
import pathlib
import random
import struct

import google_crc32c
import pytest

from tests.helpers.records import HEADER, TRAILER, Values, example, starts, write_records
from transforms.errors import ImageTooLargeError, Parameter, RecordError, UserError
from transforms.inputs import examples, tfrecord_file
from transforms.inputs.examples import Example, ExampleParser, ExampleSpec, KeptColumn
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
        ImageRef(f"{path}#{index}", path, "", length, index, offset)
        for index, (offset, length) in enumerate(tfrecord_file.scan(path))
    ]


def read_all(path: str, max_bytes: int = ANY_SIZE) -> list[bytes | Exception]:
    return list(tfrecord_file.read_records(path, refs_of(path), max_bytes))


def good(results: list[bytes | Exception]) -> list[bytes]:
    return [result for result in results if isinstance(result, bytes)]


def errors(results: list[bytes | Exception]) -> list[Exception]:
    return [result for result in results if isinstance(result, Exception)]


def shown(results: list[Example | RecordError]) -> list[object]:
    """The image of each Example; the class of each error."""
    return [r.image if isinstance(r, Example) else type(r) for r in results]


# Finding records


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_every_record_is_found_and_read(tmp_path: pathlib.Path, compression: str):
    records = [*payloads(20), b"", b"x"]
    path = write_records(tmp_path / "a.tfrecord", records, compression)
    expected = list(zip(starts(records), map(len, records), strict=True))
    assert list(tfrecord_file.scan(path)) == expected
    assert read_all(path) == records


@pytest.mark.parametrize(
    ("name", "compression"),
    [("a.tfrecord.gz", "GZIP"), ("a.tfrecord", "GZIP"), ("a.tfrecord.gz", ""), ("a", "GZIP")],
)
def test_the_bytes_say_whether_a_file_is_gzipped_not_its_name(
    tmp_path: pathlib.Path, name: str, compression: str
):
    records = payloads(5)
    assert read_all(write_records(tmp_path / name, records, compression)) == records


def test_a_plain_record_as_long_as_gzips_magic_number_is_not_taken_for_gzip(tmp_path: pathlib.Path):
    records = [bytes(0x8B1F), b"x"]  # its length field begins with 1f 8b
    path = write_records(tmp_path / "a.tfrecord", records)
    assert pathlib.Path(path).read_bytes().startswith(b"\x1f\x8b")
    assert read_all(path) == records


def test_a_gzip_file_of_several_members_is_one_file(tmp_path: pathlib.Path):
    first = write_records(tmp_path / "a", payloads(3), "GZIP")
    second = write_records(tmp_path / "b", payloads(4), "GZIP")
    both = tmp_path / "both.tfrecord.gz"
    both.write_bytes(pathlib.Path(first).read_bytes() + pathlib.Path(second).read_bytes())
    assert read_all(str(both)) == payloads(3) + payloads(4)


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_an_empty_file_has_no_records(tmp_path: pathlib.Path, compression: str):
    assert list(tfrecord_file.scan(write_records(tmp_path / "a.tfrecord", [], compression))) == []


@pytest.mark.parametrize("compression", ["", "GZIP"])
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


@pytest.mark.parametrize("byte", range(HEADER))
def test_a_damaged_length_costs_the_rest_of_the_file(tmp_path: pathlib.Path, byte: int):
    records = payloads(5)
    path = write_records(tmp_path / "a.tfrecord", records)
    at = starts(records)[2]
    flip(path, at + byte)
    results = read_all(path)
    assert results[:2] == records[:2]
    [error] = results[2:]
    assert isinstance(error, RecordError)
    assert f"record 2 at byte {at} has a damaged length" in str(error)
    assert "rest of the file" in str(error)


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
        # Random bytes are stored as they are: what lies well before the cut must be there.
        assert len(good(results)) >= sum(end < cut - 300 for end in ends)
        kept.append(len(good(results)))
    assert kept == sorted(kept)
    assert kept[-1] >= 28


def test_damage_in_a_gzip_file_is_an_error_and_never_wrong_data(tmp_path: pathlib.Path):
    records = payloads(30)
    path = write_records(tmp_path / "a.tfrecord.gz", records, "GZIP")
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


def test_the_image_is_read_from_its_feature():
    records = [example(image=[b"one"], other=[1, 2]), example(image=[b"two"])]
    assert ExampleParser(ExampleSpec()).parse(records) == [Example(b"one"), Example(b"two")]
    png = ExampleParser(ExampleSpec(image_key="png"))
    assert png.parse([example(png=[b"three"])]) == [Example(b"three")]
    assert png.parse([]) == []


UNUSABLE = {
    "no proto": (b"this is no tf.Example", "not a tf.Example"),
    "cut off": (example(image=[b"x" * 50])[:-20], "not a tf.Example"),
    "no image": (example(other=[b"x"]), "image/encoded"),
    "no features": (b"", "image/encoded"),
    "image of integers": (example(image=[1, 2]), "image/encoded"),
    "image of floats": (example(image=[0.5]), "image/encoded"),
    "two images": (example(image=[b"x", b"y"]), "holds 2 images"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_example_is_an_error_that_says_why(name: str):
    record, why = UNUSABLE[name]
    [error] = ExampleParser(ExampleSpec()).parse([record])
    assert isinstance(error, RecordError)
    assert why in str(error)


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("position", range(4))
def test_an_unusable_example_costs_itself_only_and_the_order_stays(name: str, position: int):
    records = [example(image=[b"%d" % number]) for number in range(3)]
    records.insert(position, UNUSABLE[name][0])
    expected: list[object] = [b"0", b"1", b"2"]
    expected.insert(position, RecordError)
    parser = ExampleParser(ExampleSpec())
    assert shown(parser.parse(records)) == expected
    assert shown(parser.parse(records)) == expected  # and nothing stays behind in the parser


def test_batches_of_good_and_unusable_examples_keep_their_order():
    chance = random.Random(0)
    parser = ExampleParser(ExampleSpec(keep=(KeptColumn("number", "int64"),)))
    unusable = [record for record, _ in UNUSABLE.values()]
    unusable += [example(image=[b"x"], number=[0.5]), example(image=[b"x"], number=[1, 2])]
    for _ in range(50):
        records, expected = [], []
        for number in range(chance.randrange(1, 9)):
            if chance.random() < 0.3:
                records.append(chance.choice(unusable))
                expected.append(RecordError)
            else:
                records.append(example(image=[b"%d" % number], number=[number]))
                expected.append(Example(b"%d" % number, (number,)))
        parsed = parser.parse(records)
        results = [r if isinstance(r, Example) else type(r) for r in parsed]
        assert results == expected


# Kept columns


@pytest.mark.parametrize(
    ("column", "values", "kept"),
    [
        (KeptColumn("c", "string"), ["Zürich".encode()], "Zürich"),
        (KeptColumn("c", "string", True), [b"a", "ü".encode()], ["a", "ü"]),
        (KeptColumn("c", "binary"), [b"\xff\0"], b"\xff\0"),
        (KeptColumn("c", "binary", True), [b"\xff", b""], [b"\xff", b""]),
        (KeptColumn("c", "int64"), [-(2**63)], -(2**63)),
        (KeptColumn("c", "int64", True), [1, 2**63 - 1], [1, 2**63 - 1]),
        (KeptColumn("c", "float32"), [0.5], 0.5),
        (KeptColumn("c", "float32", True), [0.25, -2.0, 1e30], [0.25, -2.0, pytest.approx(1e30)]),
        (KeptColumn("c", "int64", True), [7], [7]),
    ],
)
def test_a_kept_feature_becomes_a_value_of_its_type(column: KeptColumn, values: Values, kept):
    parser = ExampleParser(ExampleSpec(keep=(column,)))
    [parsed] = parser.parse([example(image=[b"x"], c=values)])
    assert isinstance(parsed, Example)
    assert parsed.kept == (kept,)
    assert type(parsed.kept[0]) is type(kept)


def test_a_kept_feature_that_an_example_lacks_is_none():
    columns = [
        KeptColumn(f"{kind} {is_list}", kind, is_list)
        for kind in ("string", "binary", "int64", "float32")
        for is_list in (False, True)
    ]
    parser = ExampleParser(ExampleSpec(keep=tuple(columns)))
    assert parser.parse([example(image=[b"x"])]) == [Example(b"x", (None,) * 8)]


def test_kept_values_come_in_the_order_asked_for():
    keep = (KeptColumn("b", "int64"), KeptColumn("a", "string"))
    parsed = ExampleParser(ExampleSpec(keep=keep)).parse([example(image=[b"x"], a=[b"A"], b=[1])])
    assert parsed == [Example(b"x", (1, "A"))]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (KeptColumn("c", "string"), [5]),
        (KeptColumn("c", "int64"), [b"five"]),
        (KeptColumn("c", "float32"), [5]),
        (KeptColumn("c", "string"), [b"a", b"b"]),
        (KeptColumn("c", "int64"), [1, 2]),
        (KeptColumn("c", "string"), [b"caf\xe9"]),
        (KeptColumn("c", "string", True), [b"cafe", b"caf\xe9"]),
    ],
)
def test_another_type_than_the_columns_is_an_error_that_names_the_feature(
    column: KeptColumn, values: Values
):
    parser = ExampleParser(ExampleSpec(keep=(column,)))
    before, other, after = parser.parse(
        [example(image=[b"1"]), example(image=[b"2"], c=values), example(image=[b"3"])]
    )
    assert (before, after) == (Example(b"1", (None,)), Example(b"3", (None,)))
    assert isinstance(other, RecordError)
    assert "'c'" in str(other) or '"c"' in str(other)


# The types of kept columns


def test_column_types_are_those_of_the_first_example(tmp_path: pathlib.Path):
    first = example(
        image=[b"x"],
        text=[b"a"],
        texts=[b"a", b"b"],
        raw=[b"\xff"],
        number=[1],
        numbers=[1, 2],
        score=[0.5],
        scores=[0.5, 1.5],
    )
    path = write_records(tmp_path / "a.tfrecord", [first, example(text=[1])])
    names = ["scores", "text", "texts", "raw", "number", "numbers", "score"]
    assert examples.infer_columns(path, names) == (
        KeptColumn("scores", "float32", True),
        KeptColumn("text", "string"),
        KeptColumn("texts", "string", True),
        KeptColumn("raw", "binary"),
        KeptColumn("number", "int64"),
        KeptColumn("numbers", "int64", True),
        KeptColumn("score", "float32"),
    )


def test_column_types_come_from_the_first_example_that_can_be_read(tmp_path: pathlib.Path):
    records = [example(text=[b"x" * 90]), b"no proto", example(text=[7])]
    path = write_records(tmp_path / "a.tfrecord.gz", records)
    flip(path, HEADER + 40)
    assert examples.infer_columns(path, ["text"]) == (KeptColumn("text", "int64"),)


def test_a_feature_that_is_not_there_is_a_mistake_that_lists_what_is(tmp_path: pathlib.Path):
    path = write_records(tmp_path / "a.tfrecord", [example(image=[b"x"], caption=[b"a cat"])])
    with pytest.raises(UserError) as caught:
        examples.infer_columns(path, ["capton", "caption", "width"])
    text = str(caught.value)
    assert caught.value.subject == Parameter("keep", "capton,width")
    assert text.startswith("keep capton,width: ")
    assert path in text
    assert "caption, image/encoded" in text


@pytest.mark.parametrize("content", [b"", b"id,label\n1,cat\n" * 3, gzip.compress(b"", mtime=0)])
def test_no_readable_example_is_a_mistake_that_names_the_file(
    tmp_path: pathlib.Path, content: bytes
):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^keep: {path} holds no readable tf.Example"):
        examples.infer_columns(str(path), ["label"])


def test_a_file_that_cannot_be_opened_is_a_mistake_that_names_it(tmp_path: pathlib.Path):
    path = tmp_path / "a.tfrecord"
    path.symlink_to("nowhere")
    with pytest.raises(UserError, match=f"^{path}: cannot be read: ") as caught:
        examples.infer_columns(str(path), ["label"])
    assert caught.value.subject == str(path)


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
    found = list(examples.example_ids(path, "id"))
    assert [place[:2] for place in found] == list(tfrecord_file.scan(path))
    ids = [place[2] for place in found]
    assert ids[:2] + ids[-1:] == ["Zürich", "-5", "last"]
    assert not any(ids[2:-1])


def test_ids_before_a_damaged_length_are_read(tmp_path: pathlib.Path):
    records = [example(id=[b"%d" % number]) for number in range(4)]
    path = write_records(tmp_path / "a.tfrecord", records)
    flip(path, starts(records)[2])
    *ids, last = [place[2] for place in examples.example_ids(path, "id")]
    assert ids == ["0", "1"]
    assert not last
