"""The README says what the program does."""

from __future__ import annotations

import re

from pipeline.options.arguments import own_parser
from tests.helpers.commands import ROOT

README = (ROOT / "README.md").read_text()


def own_flags() -> set[str]:
    actions = own_parser()._actions
    return {flag for action in actions for flag in action.option_strings} - {"-h", "--help"}


def test_every_option_is_in_the_table_and_no_other():
    table = README.split("## Options", 1)[1].split("Exit codes", 1)[0]
    rows = [line for line in table.splitlines() if line.startswith("| `--")]
    named = {flag for row in rows for flag in re.findall(r"`(--\w+)", row)}
    assert named == own_flags() - {"--runner"} | {"--labels"}


def test_defaults_in_the_table_are_those_of_the_program():
    for action in own_parser()._actions:
        for flag in action.option_strings:
            row = re.search(rf"^\| `{flag}[^|]*\| ([^|]*) \|", README, re.MULTILINE)
            if row and isinstance(action.default, (int, float)) and action.default is not False:
                assert row[1] == str(action.default), flag
