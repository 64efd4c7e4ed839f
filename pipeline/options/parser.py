"""The parser that the program's verbs share: how they are called, and how a mistake is told."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
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
        with _told_as_user_error():
            return super().parse_args(args, namespace)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but for `--version` alone; raises a `UserError`."""
        words = sys.argv[1:] if args is None else list(args)
        if words == ["--version"]:
            print(program.VERSION)
            self.exit()
        with _told_as_user_error():
            return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Raises what is wrong with more than one flag."""
        raise UserError(message)


@contextlib.contextmanager
def _told_as_user_error() -> Iterator[None]:
    try:
        yield
    except argparse.ArgumentError as error:
        raise UserError(error.message, subject=error.argument_name) from None
