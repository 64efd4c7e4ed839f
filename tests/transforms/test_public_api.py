"""The public names of `transforms` and how they are called: a change is made on purpose.

`python -m tests.transforms.test_public_api` writes `public_api.txt` anew.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import transforms

SNAPSHOT = pathlib.Path(__file__).with_name("public_api.txt")
COMMAND = "python -m tests.transforms.test_public_api"


def described() -> str:
    """All public names with what is given to them and had from them, one thing a line."""
    return "".join(f"{line}\n" for name in transforms.__all__ for line in _lines(name))


def _lines(name: str) -> Iterator[str]:
    value = getattr(transforms, name)
    if not inspect.isclass(value):
        yield from _function(f"def {name}", value)
        return
    bases = [base.__name__ for base in value.__bases__ if base is not object]
    yield f"class {name}({', '.join(bases)})" if bases else f"class {name}"
    fields = {}
    if dataclasses.is_dataclass(value):
        fields = inspect.signature(value).parameters
        yield from (f"    {_parameter(field)}" for field in fields.values())
    elif "__init__" in vars(value):
        yield from _function("    def __init__", value.__init__)
    for member, attribute in sorted(vars(value).items()):
        if member.startswith("_") or member in fields:
            continue
        if isinstance(attribute, property):
            yield f"    {member} -> {inspect.signature(attribute.fget).return_annotation}"
        elif callable(getattr(value, member)):
            yield from _function(f"    def {member}", getattr(value, member))


def _function(head: str, function: Callable[..., Any]) -> Iterator[str]:
    signature = inspect.signature(function)
    answer = signature.return_annotation
    yield head if answer is signature.empty else f"{head} -> {answer}"
    indent = " " * (len(head) - len(head.lstrip()) + 4)
    for parameter in signature.parameters.values():
        if parameter.name != "self":
            yield indent + _parameter(parameter)


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    text = f"{stars.get(parameter.kind, '')}{parameter.name}: {parameter.annotation}"
    if parameter.kind is parameter.KEYWORD_ONLY:
        text += " (by name)"
    return text if parameter.default is parameter.empty else f"{text} = {parameter.default!r}"


def test_the_public_api_changes_on_purpose():
    committed, now = SNAPSHOT.read_text("utf-8"), described()
    changes = "\n".join(difflib.unified_diff(committed.splitlines(), now.splitlines(), lineterm=""))
    assert committed == now, (
        f"the public API of transforms is another one:\n{changes}\n"
        f"If that is meant, run `{COMMAND}`, say it in CHANGELOG.md and commit both."
    )


def test_all_is_sorted_and_there():
    assert sorted(transforms.__all__) == transforms.__all__
    assert all(getattr(transforms, name).__doc__ for name in transforms.__all__)


if __name__ == "__main__":
    SNAPSHOT.write_text(described(), "utf-8")
