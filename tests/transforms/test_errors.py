"""Error rows say on one readable line which image failed, where and why.

Mistakes speak of parameters, whatever the program calls them.
"""

from __future__ import annotations

import ast
import copy
import pathlib
import pickle
import re
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest

import transforms
from transforms.errors import (
    ERROR_SCHEMA,
    MAX_MESSAGE_LENGTH,
    CorruptImageError,
    ImageError,
    Message,
    Parameter,
    UserError,
    error_row,
    error_table,
    explained,
    one_line,
)
from transforms.refs import ImageRef

REF = ImageRef(id="cats/1.png", uri="/photos/cats/1.png", version="9-1", record_index=3)


def test_an_error_row_says_which_image_which_stage_and_what() -> None:
    row = error_row(REF, "decode", CorruptImageError("truncated JPEG"))
    assert (row.id, row.uri, row.version) == ("cats/1.png", "/photos/cats/1.png", "9-1")
    assert (row.stage, row.error_type, row.message) == (
        "decode",
        "CorruptImageError",
        "truncated JPEG",
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("a\n  b\t\tc\r\n"), "a b c"),
        (ValueError("a\u2028b\x0bc"), "a b c"),
        (ValueError(), "ValueError"),
        (ValueError("  \n "), "ValueError"),
        (KeyError("image/encoded"), "'image/encoded'"),
        (FileNotFoundError(2, "No such file or directory", "/secret/a.png"), "No such file or "),
        (OSError("a message of its own"), "a message of its own"),
        (MemoryError(), "MemoryError"),
        (ValueError("Bäume 木 🌳"), "Bäume 木 🌳"),
    ],
)
def test_messages_are_on_one_line(error: Exception, expected: str) -> None:
    text = one_line(error)
    assert text.startswith(expected)
    assert len(text.splitlines()) == 1
    assert text == text.strip()


@pytest.mark.parametrize("length", [499, 500, 501, 100_000])
def test_long_messages_are_cut_and_say_so(length: int) -> None:
    text = one_line(ValueError("x" * length))
    assert len(text) == min(length, MAX_MESSAGE_LENGTH)
    assert text.endswith("…") == (length > MAX_MESSAGE_LENGTH)


def test_tensorflows_own_places_are_left_out() -> None:
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError) as info:
        tf.io.decode_png(b"no png")
    text = one_line(info.value)
    assert "{{function_node" in str(info.value)  # what a person would have to read otherwise
    assert "function_node" not in text
    assert "[Op:" not in text
    assert len(text) > 10


def test_a_failing_model_function_is_told_on_one_line() -> None:
    import tensorflow as tf

    @tf.function
    def fail(value):
        tf.debugging.Assert(value > 1.0, ["the value is too small:", value])
        return value

    with pytest.raises(tf.errors.InvalidArgumentError) as info:
        fail(tf.constant(0.5))
    text = one_line(info.value)
    assert "the value is too small" in text
    assert len(text) <= MAX_MESSAGE_LENGTH
    assert len(text.splitlines()) == 1


def test_error_rows_are_written_and_read_back(tmp_path: pathlib.Path) -> None:
    rows = [
        error_row(REF, "read", FileNotFoundError(2, "No such file or directory")),
        error_row(REF, "infer", ValueError("Bäume\n木 🌳")),
    ]
    pq.write_table(error_table(rows), tmp_path / "errors.parquet")
    table = pq.read_table(tmp_path / "errors.parquet")
    assert table.schema.equals(ERROR_SCHEMA)
    names = ["id", "uri", "version", "stage", "error_type", "message", "transient"]
    assert table.schema.names == names
    assert table.to_pylist() == [
        {
            "id": "cats/1.png",
            "uri": "/photos/cats/1.png",
            "version": "9-1",
            "stage": stage,
            "error_type": kind,
            "message": message,
            "transient": False,
        }
        for stage, kind, message in [
            ("read", "FileNotFoundError", "No such file or directory"),
            ("infer", "ValueError", "Bäume 木 🌳"),
        ]
    ]


def test_no_error_rows_are_a_table_with_the_columns() -> None:
    table = error_table([])
    assert (len(table), table.schema) == (0, ERROR_SCHEMA)


@pytest.mark.parametrize("message", ["not UTF-8: \udcff", "a null \0 byte", "half a pair \ud83c"])
def test_a_message_with_odd_characters_can_be_written(tmp_path: pathlib.Path, message: str) -> None:
    """One image's message must not cost its shard."""
    row = error_row(REF, "decode", CorruptImageError(message))
    pq.write_table(error_table([row]), tmp_path / "errors.parquet")
    [read] = pq.read_table(tmp_path / "errors.parquet")["message"].to_pylist()
    assert read.startswith(message.split(" ")[0])


def test_a_users_mistake_is_no_error_of_an_image() -> None:
    assert not issubclass(UserError, ImageError)
    assert not issubclass(ImageError, UserError)


# Mistakes


def wrong_output() -> UserError:
    return UserError(
        "choose one of its outputs with ",
        Parameter("output_key"),
        ": a [B, 8], b [B, 4]",
        subject=Parameter("model", "hub/m"),
        remedy=Parameter("output_key"),
    )


def as_python(parameter: Parameter) -> str:
    return f"<{parameter.name}|{parameter.value}>"


@pytest.mark.parametrize(
    ("error", "here", "elsewhere"),
    [
        (UserError("is missing"), "is missing", "is missing"),
        (
            wrong_output(),
            "model hub/m: choose one of its outputs with output_key: a [B, 8], b [B, 4]",
            "<model|hub/m>: choose one of its outputs with <output_key|None>: a [B, 8], b [B, 4]",
        ),
        (
            UserError("give ", Parameter("engine", "tensorflow"), subject=Parameter("engine", "x")),
            "engine x: give engine='tensorflow'",
            "<engine|x>: give <engine|tensorflow>",
        ),
        (
            UserError("too far", subject=(Parameter("engine", "x"), Parameter("precision", "y"))),
            "engine x precision y: too far",
            "<engine|x> <precision|y>: too far",
        ),
        (UserError("cannot be read", subject="a.tfrecord"), "a.tfrecord: cannot be read", None),
    ],
)
def test_a_mistake_names_parameters_as_whoever_tells_it(
    error: UserError, here: str, elsewhere: str | None
) -> None:
    assert str(error) == one_line(error) == here
    assert error.told(as_python) == (elsewhere or here)
    assert here.endswith(str(error.message))


def test_a_mistake_within_a_message_keeps_its_parameters() -> None:
    message = Message(("fails on a batch of 7: ", *explained(wrong_output())))
    assert message.told(as_python).startswith("fails on a batch of 7: <model|hub/m>: choose")
    assert Message(explained(ValueError("a\nb"))) == Message(("a b",))


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_a_mistake_crosses_processes_whole(copied) -> None:
    error = wrong_output()
    again = copied(error)
    assert type(again) is UserError
    assert (str(again), again.pieces) == (str(error), error.pieces)
    assert (again.subject, again.remedy) == (error.subject, error.remedy)


def test_a_mistake_in_a_step_of_a_pipeline_is_told_whole() -> None:
    """Beam makes an exception of the same type, from the arguments of the one that was raised."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    def fail(element: int) -> int:
        raise wrong_output()

    whole = r"model hub/m: .* output_key: a \[B, 8\], b \[B, 4\]"
    with pytest.raises(UserError, match=whole), beam.Pipeline(FnApiRunner()) as pipeline:
        pipeline | beam.Create([1]) | "Fail" >> beam.Map(fail)


# Nothing in transforms/ knows the command line


def sources() -> Iterator[tuple[pathlib.Path, ast.Module]]:
    for path in sorted(pathlib.Path(transforms.__file__).parent.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def places(wanted) -> list[str]:
    return [
        f"{path}:{node.lineno}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if wanted(node)
    ]


def test_no_text_names_a_flag() -> None:
    def names_a_flag(node: ast.AST) -> bool:
        text = isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value
        return bool(text and re.search(r"--[A-Za-z]", text))

    assert not places(names_a_flag)


def test_each_mistake_has_a_subject() -> None:
    def has_none(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "UserError"
            and "subject" not in {keyword.arg for keyword in node.keywords}
        )

    assert not places(has_none)
