"""The parser that the program's verbs share: how they are called, and how a mistake is told."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NoReturn

from pipeline.options import program
from transforms.errors import UserError


class Parser(argparse.ArgumentParser):
    """Tells a mistake as a `UserError` about the flag, without the usage.

    `--version` alone prints the program's version. With anything else it is an option of run: a
    script whose value for it came out empty gets an error, not a version and the exit code 0.
    """

    def __init__(self, verb: str, **settings: Any):
        super().__init__(
            prog=program.called(verb), allow_abbrev=False, exit_on_error=False, **settings
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; raises a `UserError`."""
        parsed, unknown = self.parse_known_args(args, namespace)
        for word in unknown:
            if word.startswith("-"):
                raise no_such_option(word, self._option_string_actions)
        if unknown:
            raise UserError(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but for `--version` alone; raises a `UserError`."""
        words = sys.argv[1:] if args is None else list(args)
        if words == ["--version"]:
            print(program.VERSION)
            self.exit()
        refuse_what_is_no_text(words)
        with _told_as_user_error():
            return super().parse_known_args(with_joined_value(words), namespace)

    def error(self, message: str) -> NoReturn:
        """Raises what is wrong with more than one flag."""
        raise UserError(message)


def no_such_option(word: str, known: Collection[str]) -> UserError:
    """About a flag that is not `known`, with the nearest one that is."""
    flag = word.partition("=")[0]
    meant = similar_option(flag, known)
    hint = f"did you mean {meant}?" if meant else "--help lists them"
    return UserError(f"no such option; {hint}", subject=flag)


def similar_option(flag: str, known: Collection[str]) -> str | None:
    """What was meant by a flag with a typing error.

    >>> similar_option("--image-sise", ["--image_size", "--input"])
    '--image_size'
    """
    by_name = {option.lstrip("-"): option for option in known}
    name = flag.lstrip("-").replace("-", "_")
    return by_name.get(next(iter(difflib.get_close_matches(name, by_name, 1, 0.8)), ""))


def refuse_what_is_no_text(words: Sequence[str]) -> None:
    """Refuses bytes that are not UTF-8, as names of old files may be: Beam's options are text.

    Raises:
      UserError: names the argument, and the flag that it belongs to.
    """
    flag = None
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            flag, word = name, value if equals else ""
        told = word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if told != word:
            subject = f"{flag} {told}" if flag else told
            raise UserError("is not UTF-8; rename it", subject=subject)


def with_joined_value(words: Sequence[str]) -> list[str]:
    """The words, with a value range that begins with a minus made one word with its flag.

    argparse would take it for a flag.

    >>> with_joined_value(["--value_range", "-1,1", "--top_k", "-1"])
    ['--value_range=-1,1', '--top_k', '-1']
    """
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--value_range" and word.startswith("-") and word[1:2] != "-":
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


@contextlib.contextmanager
def _told_as_user_error() -> Iterator[None]:
    try:
        yield
    except argparse.ArgumentError as error:
        raise UserError(error.message, subject=error.argument_name) from None
