"""Whatever parameter the library speaks of, the person reads a flag that there is."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

import pytest

import transforms
from pipeline.options.arguments import own_parser, parse
from pipeline.options.parser import Parser
from pipeline.terminal.errors import flag, told
from transforms.errors import Message, Parameter, UserError


def parameters() -> Iterator[str]:
    """The names of all parameters that transforms/ speaks of."""
    for path in pathlib.Path(transforms.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_call = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Parameter"
            if is_call and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def test_each_parameter_is_a_flag() -> None:
    names = {*parameters(), "image_key", "id_key"}
    assert {"model", "pool", "trusted", "arguments", "inputs", "keep"} <= names
    flags = own_parser()._option_string_actions
    assert not {name for name in names if flag(Parameter(name)) not in flags}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UserError("--keep takes features"), "--keep takes features"),
        (
            UserError(
                "choose with ", Parameter("output_key"), ": a", subject=Parameter("model", "m")
            ),
            "--model m: choose with --output_key: a",
        ),
        (
            UserError("add ", Parameter("trusted", True), subject=Parameter("inputs", "a b")),
            "--input a b: add --trust_model",
        ),
        (UserError("cannot be read", subject="a.tfrecord"), "a.tfrecord: cannot be read"),
        (Message(("with ", Parameter("arguments"))), "with --model_args"),
    ],
)
def test_the_person_reads_flags(error: UserError | Message, text: str) -> None:
    assert told(error) == text


def test_a_flag_that_is_used_wrongly_is_the_subject() -> None:
    with pytest.raises(UserError) as info:
        parse(["--input", "a", "--output", "b", "--pool", "median"])
    assert info.value.subject == "--pool"
    assert str(info.value).startswith("--pool: invalid choice: 'median'")


def test_a_word_too_many_is_told_without_the_usage(capsys: pytest.CaptureFixture) -> None:
    parser = Parser("status")
    parser.add_argument("output")
    with pytest.raises(UserError, match=r"^unrecognized arguments: b$"):
        parser.parse_args(["a", "b"])
    with pytest.raises(UserError, match=r"^the following arguments are required: output$"):
        parser.parse_args([])
    assert capsys.readouterr() == ("", "")
