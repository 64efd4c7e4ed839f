"""docs/options.md says what the program does."""

from __future__ import annotations

import re

from pipeline.options.arguments import own_parser
from tests.helpers.commands import ROOT

PAGE = (ROOT / "docs" / "options.md").read_text()


def own_flags() -> set[str]:
    actions = own_parser()._actions
    return {flag for action in actions for flag in action.option_strings} - {"-h", "--help"}


def test_every_option_is_in_the_table_and_no_other():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `--")]
    named = {flag for row in rows for flag in re.findall(r"`(--\w+)", row.split("|")[1])}
    assert named == own_flags() - {"--runner"} | {"--labels"}


def test_defaults_in_the_table_are_those_of_the_program():
    for action in own_parser()._actions:
        for flag in action.option_strings:
            row = re.search(rf"^\| `{flag}[^|]*\| ([^|]*) \|", PAGE, re.MULTILINE)
            if row and isinstance(action.default, (int, float)) and action.default is not False:
                assert row[1] == str(action.default), flag
