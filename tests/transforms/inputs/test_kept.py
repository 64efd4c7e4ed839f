"""Features that become columns: types that are seen or declared, and values that do not fit."""

from __future__ import annotations

import gzip
import pathlib

import pytest

from tests.helpers.records import HEADER, Values, example, starts, write_records
from transforms.batches import ImageWarning
from transforms.errors import Parameter, UserError
from transforms.inputs.examples import Example, ExampleSpec, example_features, parse_example
from transforms.inputs.kept import FeaturesSeen, KeptColumn, declared
from transforms.inputs.sampling import EXAMPLES_LOOKED_AT, look_at

# Values


def parse(record: bytes, *keep: KeptColumn) -> Example:
    return parse_example(record, ExampleSpec(keep=keep))


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
        (KeptColumn("c", "float32"), [2**24], 2.0**24),
        (KeptColumn("c", "float32", True), [1, -2], [1.0, -2.0]),
    ],
)
def test_a_kept_feature_becomes_a_value_of_its_type(column: KeptColumn, values: Values, kept):
    parsed = parse(example(image=[b"x"], c=values), column)
    assert (parsed.kept, parsed.warnings) == ((kept,), ())
    assert type(parsed.kept[0]) is type(kept)


def test_a_kept_feature_that_an_example_lacks_is_none():
    columns = [
        KeptColumn(f"{kind} {is_list}", kind, is_list)
        for kind in ("string", "binary", "int64", "float32")
        for is_list in (False, True)
    ]
    assert parse(example(image=[b"x"]), *columns) == Example(b"x", (None,) * 8)


def test_a_feature_without_values_is_none_or_an_empty_list():
    one, many = KeptColumn("c", "int64"), KeptColumn("c", "int64", True)
    assert parse(example(image=[b"x"], c=[]), one, many) == Example(b"x", (None, []))


def test_kept_values_come_in_the_order_asked_for():
    record = example(image=[b"x"], a=[b"A"], b=[1])
    assert parse(record, KeptColumn("b", "int64"), KeptColumn("a", "string")).kept == (1, "A")


@pytest.mark.parametrize(
    ("column", "values", "why"),
    [
        (KeptColumn("c", "string"), [5], "holds int64, not string"),
        (KeptColumn("c", "int64"), [b"five"], "holds bytes, not int64"),
        (KeptColumn("c", "int64"), [5.0], "holds float, not int64"),
        (KeptColumn("c", "float32"), [2**24 + 1], "holds int64, not float32"),
        (KeptColumn("c", "float32"), [2**62 + 1], "holds int64, not float32"),
        (KeptColumn("c", "binary", True), [0.5], "holds float, not binary"),
        (KeptColumn("c", "string"), [b"a", b"b"], "holds 2 values, not 1"),
        (KeptColumn("c", "int64"), [1, 2], "holds 2 values, not 1"),
        (KeptColumn("c", "string"), [b"caf\xe9"], "is not UTF-8 text"),
        (KeptColumn("c", "string", True), [b"cafe", b"caf\xe9"], "is not UTF-8 text"),
    ],
)
def test_a_value_that_does_not_fit_is_null_and_a_warning(
    column: KeptColumn, values: Values, why: str
):
    record = example(image=[b"x"], c=values, d=[7])
    parsed = parse(record, column, KeptColumn("d", "int64"))
    assert parsed == Example(b"x", (None, 7), (ImageWarning("keep", f"feature 'c' {why}"),))


# Declared types


@pytest.mark.parametrize(
    ("word", "column"),
    [
        ("label:int64", KeptColumn("label", "int64")),
        ("boxes:list<float>", KeptColumn("boxes", "float32", True)),
        ("m:bytes", KeptColumn("m", "binary")),
        ("image/text:list<string>", KeptColumn("image/text", "string", True)),
        ("a:b:int", KeptColumn("a:b", "int64")),
    ],
)
def test_a_type_can_be_declared(word: str, column: KeptColumn):
    assert declared(word) == column
    assert declared(str(column)) == column  # as a fingerprint has it


@pytest.mark.parametrize(
    "word", ["label", "image/text", "label:", ":int64", "bbox:xmin", "a:list<x>"]
)
def test_what_declares_no_type_is_a_name(word: str):
    assert declared(word) == word


# Types that are seen


def seen(*records: bytes) -> FeaturesSeen:
    return FeaturesSeen(map(example_features, records), "a.tfrecord")


def test_column_types_are_those_of_the_examples():
    first = example(
        image=[b"x"],
        text=[b"a"],
        texts=[b"a", b"b"],
        raw=[b"\xff"],
        number=[1],
        numbers=[1, 2],
        score=[0.5],
        scores=[0.5, 1.5],
        nothing=[],
    )
    names = ["scores", "text", "texts", "raw", "number", "numbers", "score"]
    assert seen(first, example(other=[1])).columns(names) == (
        KeptColumn("scores", "float32", True),
        KeptColumn("text", "string"),
        KeptColumn("texts", "string", True),
        KeptColumn("raw", "binary"),
        KeptColumn("number", "int64"),
        KeptColumn("numbers", "int64", True),
        KeptColumn("score", "float32"),
    )


@pytest.mark.parametrize(
    ("examples", "column"),
    [
        ([{}, {}, {"c": [1]}], KeptColumn("c", "int64")),  # the first lacks it
        ([{"c": [1]}, {"c": [1, 2]}, {"c": []}], KeptColumn("c", "int64", True)),  # lists vary
        ([{"c": [0.5]}, {"c": []}], KeptColumn("c", "float32")),
        ([{"c": [b"a"]}, {"c": [b"caf\xe9"]}], KeptColumn("c", "binary")),  # not all is text
        ([{"c": [b"a"]}, {"c": [1]}, {"c": [2]}], KeptColumn("c", "int64")),  # most are numbers
    ],
)
def test_what_one_example_does_not_show_another_does(examples: list[dict], column: KeptColumn):
    records = [example(image=[b"x"], **features) for features in examples]
    assert seen(*records).columns(["c"]) == (column,)
    assert seen(*reversed(records)).columns(["c"]) == (column,)


def test_declared_types_need_no_example():
    wanted = [KeptColumn("c", "int64"), "d"]
    assert seen(example(d=[1.5])).columns(wanted) == (wanted[0], KeptColumn("d", "float32"))
    assert seen().columns(wanted[:1]) == (wanted[0],)


def test_a_feature_that_no_example_has_is_a_mistake_that_lists_what_is():
    with pytest.raises(UserError) as caught:
        seen(example(image=[b"x"], caption=[b"a cat"])).columns(["capton", "caption", "width"])
    text = str(caught.value)
    assert caught.value.subject == Parameter("keep", "capton,width")
    assert "a.tfrecord have caption, image/encoded" in text
    assert "label:int64" in text


def test_no_readable_example_is_a_mistake_that_names_the_file():
    with pytest.raises(UserError, match=r"^keep label: a\.tfrecord holds no readable tf\.Example"):
        seen().columns(["label"])


# Which Examples are looked at


def test_examples_are_looked_at_all_over_the_files(tmp_path: pathlib.Path):
    records = [example(image=[b"x" * 50], c=[1]) for _ in range(2000)]
    records[1500:] = [example(image=[b"x" * 50], late=[0.5]) for _ in range(500)]
    first = write_records(tmp_path / "a.tfrecord", records)
    names = [write_records(tmp_path / f"{n}.tfrecord", [example(image=[b"x"])]) for n in range(40)]
    last = write_records(tmp_path / "z.tfrecord", [example(image=[b"x"], last=[b"x"])])
    wanted = ["c", "late"]
    assert look_at([first]).columns(wanted) == (
        KeptColumn("c", "int64"),
        KeptColumn("late", "float32"),
    )
    assert look_at([first, *names[:14], last]).columns(["late", "last"])
    assert look_at([*names, first]).columns([]) == ()


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_every_example_of_a_few_is_looked_at(tmp_path: pathlib.Path, compression: str):
    records = [example(**{f"f{number}": [number]}) for number in range(EXAMPLES_LOOKED_AT)]
    path = write_records(tmp_path / "a.tfrecord", records, compression)
    names = [f"f{number}" for number in range(EXAMPLES_LOOKED_AT)]
    assert len(look_at([path]).columns(names)) == EXAMPLES_LOOKED_AT


def test_what_cannot_be_read_is_passed_over(tmp_path: pathlib.Path):
    records = [example(text=[b"x" * 90]), b"no proto", example(text=[7]), example(text=[8])]
    path = pathlib.Path(write_records(tmp_path / "b.tfrecord", records))
    data = bytearray(path.read_bytes())
    data[HEADER + 40] ^= 1
    data[starts(records)[2]] ^= 1
    path.write_bytes(data)
    (tmp_path / "a.tfrecord").symlink_to("nowhere")
    (tmp_path / "c.tfrecord").write_bytes(gzip.compress(b"x" * 90)[:-9])
    (tmp_path / "d.tfrecord").write_bytes(b"<html>")
    (tmp_path / "e.tfrecord").write_bytes(b"")
    paths = sorted(map(str, tmp_path.iterdir()))
    assert look_at(paths).columns(["text"]) == (KeptColumn("text", "int64"),)
    paths.remove(str(path))
    with pytest.raises(UserError, match=r"a\.tfrecord and others holds no readable tf\.Example"):
        look_at(paths).columns(["text"])
