"""`make soak` takes out what the promises rest on: that this is all of it is looked at here."""

from __future__ import annotations

import pathlib
import re

from tests.faults.mutations import ROOT, RULES, mutations

# A call that makes something durable, a look at the lease, a condition of a request.
_PROMISES = re.compile(
    r"os\.fsync\(|^ +sync_directory\(|^ +(look|self\._before_commit)\(\)$"
    r"|IfNoneMatch|IfMatch|ifGenerationMatch|if_(source_)?generation_match"
)


def test_each_rule_has_its_places_and_its_tests() -> None:
    assert len(list(mutations())) >= len(RULES)
    assert all((ROOT / test).is_file() for rule in RULES for test in rule.tests)


def test_nothing_that_a_promise_rests_on_is_left_out() -> None:
    taken_out = {(mutation.rule.module, mutation.line) for mutation in mutations()}
    for package in ("transforms", "pipeline"):
        for path in sorted(pathlib.Path(ROOT / package).rglob("*.py")):
            module = path.relative_to(ROOT).as_posix()
            for number, line in enumerate(path.read_text().split("\n"), start=1):
                assert not _PROMISES.search(line) or (module, number) in taken_out, (module, number)
