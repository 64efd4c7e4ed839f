"""Takes out, one at a time, what the promises rest on, and looks whether a test notices.

python -m tests.faults.mutations                            # all, as `make soak` does
python -m tests.faults.mutations transforms/storage/s3.py   # those of a module

Each fsync, each condition of a request, each look at the lease and each checksum is found by its
text, so that a new one is taken out, too. A mutation is made in a copy of the tree, in which tests
run that ought to fail; they are first run on the copy as it is, and then have to pass. Printed is a
table of what was taken out and which test noticed; the exit code is 1 if one went unnoticed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ("transforms", "pipeline", "consumers", "runners", "examples", "benchmarks", "tests")

# Of one run of tests.
PATIENCE_SECONDS = 600

STEPS = "tests/faults/test_order_of_steps.py"
CONDITIONS = "tests/transforms/storage/test_conditions.py"
WRITES = "tests/transforms/storage/test_conditional_writes.py"
COMMITS = "tests/transforms/storage/test_commits.py"
PUBLISH = "tests/pipeline/output/test_publish.py"
LEASE = "tests/pipeline/output/test_lease.py"
LOOKS = "tests/pipeline/test_looks.py"
RECORD = "tests/pipeline/output/test_run_record.py"
CHECKSUMS = "tests/faults/test_checksums.py"
STAGING = "tests/transforms/models/test_staging.py"
RECORDS = "tests/transforms/inputs/test_tfrecord_file.py"


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is taken out, wherever it stands in a module.

    Attributes:
      kind: of what the promises rest on.
      module: its path.
      text: what is taken out, as a regular expression; each place where it matches is a mutation.
      instead: what stands there then.
      tests: files of which one has to notice.
    """

    kind: str
    module: str
    text: str
    instead: str
    tests: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One place of a rule.

    Attributes:
      rule: the rule.
      line: of the module, from 1.
      old, new: this line, before and after.
      content: of the whole module.
    """

    rule: Rule
    line: int
    old: str
    new: str
    content: str


LOOK, SYNC = r"^( +)look\(\)$", r"^( +)sync_directory\(.*\)$"
BUILTIN = "transforms/models/builtin/__init__.py"
PUBLISHING, FINISHING = "pipeline/output/publish.py", "pipeline/output/run_record.py"
HOLDING, CHECKING = "pipeline/output/lease.py", "pipeline/checks/parts.py"
WRITING, FILES = "transforms/dataset/writer.py", "transforms/storage/files.py"
MODELS, CONTAINERS = "transforms/models/staging.py", "transforms/inputs/tfrecord_file.py"
HEADERS = "transforms/inputs/record_search.py"
GOOGLE, S3 = "transforms/storage/google_storage.py", "transforms/storage/s3.py"
SMALL, SNAPSHOT = "transforms/storage/conditional_writes.py", "transforms/dataset/snapshot.py"
MOVES, COMMIT = "transforms/storage/changes.py", "transforms/storage/commits.py"

RULES = (
    Rule("fsync", COMMIT, r"os\.fsync\(file\.fileno\(\)\)", "pass", (STEPS,)),
    Rule("fsync", COMMIT, SYNC, r"\1pass", (STEPS,)),
    Rule("fsync", MOVES, SYNC, r"\1pass", (STEPS,)),
    Rule("fsync", MOVES, r"os\.fsync\(handle\)", "pass", (STEPS,)),
    Rule("fsync", BUILTIN, r"os\.fsync\(.*\)$", "pass", (STEPS,)),
    Rule("fsync", BUILTIN, r" _fsync_files\(w.*\)", " pass", (STEPS,)),
    Rule("condition", GOOGLE, r'\{"ifGenerationMatch": "0"\}', "{}", (CONDITIONS,)),
    # The condition, and the look at what came for stores that do not know it: either is enough.
    Rule(
        *("condition", GOOGLE),
        r'(?s)"if_generation_match": found\.token, (.*?return data) if asked\.generation in [^\n]*',
        *(r"\1", (CONDITIONS,)),
    ),
    Rule("condition", GOOGLE, r"if_source_generation_match=source\.token, ", "", (CONDITIONS,)),
    Rule("condition", S3, r'(?<=_NEW = )\{"IfNoneMatch": "\*"\}', "{}", (CONDITIONS,)),
    Rule("condition", S3, r', "IfMatch": found\.token', "", (CONDITIONS,)),
    Rule("condition", S3, r", CopySourceIfMatch=source\.token", "", (CONDITIONS,)),
    Rule("condition", SMALL, r"if_generation_match=\w+(\.token)?, ", "", (CONDITIONS,)),
    Rule("condition", SMALL, r'\{"If(None)?Match": ["\w.*]+\}', "{}", (CONDITIONS,)),
    Rule("condition", SMALL, r"(?<=if )read_text\(path\) == seen", "True", (CONDITIONS, WRITES)),
    Rule("condition", SMALL, r"(?<=if )_read_file\(path\) == seen", "True", (WRITES,)),
    Rule("condition", SMALL, r"(?<=if )_read_file\(path\) != seen", "False", (WRITES,)),
    Rule(
        "condition",
        MOVES,
        r"fcntl\.flock\(handle, fcntl\.LOCK_EX\)",
        "pass",
        (WRITES,),
    ),
    Rule(
        "condition",
        COMMIT,
        r"(?<=os\.)link(?=\(temporary)",
        "replace",
        (COMMITS,),
    ),
    Rule(
        "condition",
        PUBLISHING,
        r"conditional_writes\.write_if_unchanged\((.*), None\) is None",
        r"storage.write_text(\1)",
        (PUBLISH,),
    ),
    Rule(
        "condition",
        SNAPSHOT,
        r"write_if_unchanged\(path, text, seen\) is None",
        "storage.write_text(path, text)",
        (PUBLISH,),
    ),
    Rule("condition", PUBLISHING, r"not _is_whole\(.*\)", "False", (PUBLISH,)),
    Rule("condition", PUBLISHING, r" if name not in readable", "", (PUBLISH,)),
    Rule("look", "pipeline/job.py", LOOK, r"\1pass", (LOOKS,)),
    Rule("look", "pipeline/outcome.py", LOOK, r"\1pass", (LOOKS,)),
    Rule("look", "pipeline/output/compaction.py", LOOK, r"\1pass", (LOOKS,)),
    Rule("look", PUBLISHING, LOOK, r"\1pass", (STEPS, PUBLISH)),
    Rule("look", PUBLISHING, r"(?<=state\.files), look", "", (STEPS,)),
    Rule("look", FINISHING, LOOK, r"\1pass", (STEPS, RECORD, LOOKS)),
    Rule("look", FINISHING, r"(?<=output\.files), look", "", (STEPS,)),
    Rule("look", SNAPSHOT, LOOK, r"\1pass", (STEPS,)),
    Rule("look", WRITING, r"self\._before_commit\(\)", "pass", (STEPS,)),
    Rule("look", HOLDING, r" or lease\.run_id != run_id", "", (LEASE,)),
    Rule(
        "look",
        HOLDING,
        r"^    _read_ours\(path, run_id\)$",
        "    pass",
        (LEASE,),
    ),
    Rule("checksum", SNAPSHOT, r"file_checksum\(.*\)$", '"none"', (CHECKSUMS,)),
    Rule("checksum", SNAPSHOT, r" and files\[name\]\.modified <= written", "", (RECORD,)),
    Rule("checksum", FILES, r"digest\.update\(chunk\)", "pass", (CHECKSUMS,)),
    Rule("checksum", GOOGLE, r'found\.crc32c or ""', '""', (CHECKSUMS,)),
    Rule(
        "checksum", S3, r'(?<=size, changed, found\["ETag"\], )found\["ETag"\]', '""', (CHECKSUMS,)
    ),
    Rule(
        "checksum",
        CHECKING,
        r"file_checksum\(.*\) == wanted",
        "True",
        (CHECKSUMS,),
    ),
    Rule("checksum", CHECKING, r"(?<=verification=)True", "False", (CHECKSUMS,)),
    Rule(
        "checksum",
        WRITING,
        r"(?<=page_checksum=)True",
        "False",
        (CHECKSUMS,),
    ),
    Rule(
        "checksum",
        MODELS,
        r"^( +)_check_digest\(.*\)$",
        r"\1pass",
        (STAGING,),
    ),
    Rule("checksum", CONTAINERS, r"(?<=if )CRC\.unpack.* != .*(?=:)", "False", (RECORDS,)),
    Rule("checksum", HEADERS, r"(?<=if )CRC\.unpack.* != .*(?=:)", "False", (RECORDS,)),
)


def mutations(rules: tuple[Rule, ...] = RULES) -> Iterator[Mutation]:
    """Each place of each rule.

    Raises:
      LookupError: there is none of a rule.
    """
    for rule in rules:
        content = (ROOT / rule.module).read_text()
        places = list(re.finditer(rule.text, content, re.MULTILINE))
        if not places:
            raise LookupError(f"{rule.module}: nothing matches {rule.text}")
        for place in places:
            mutated = content[: place.start()] + place.expand(rule.instead) + content[place.end() :]
            at = content[: place.start()].count("\n")
            at += content[place.start() :].startswith("\n")
            old, new = content.split("\n")[at], mutated.split("\n")[at]
            yield Mutation(rule, at + 1, old.strip(), new.strip(), mutated)


def main(modules: list[str]) -> int:
    """Tries all, or those of some modules, and prints the table."""
    _import_what_is_large()
    unnoticed = 0
    rules = tuple(rule for rule in RULES if rule.module in modules or not modules)
    everything = sorted({test for rule in rules for test in rule.tests})
    tried = list(mutations(rules))
    with tempfile.TemporaryDirectory() as directory, _processes() as processes:
        copies = [_copy(pathlib.Path(directory, str(n))) for n in range(processes)]
        failed = _first_failure(copies[0], tuple(everything))
        if failed:
            raise SystemExit(f"{failed} fails on the tree as it is")
        print("| taken out | where | noticed by |\n|---|---|---|")
        with concurrent.futures.ThreadPoolExecutor(processes) as pool:
            free = list(copies)

            def attempt(mutation: Mutation) -> str:
                copy = free.pop()
                path = copy / mutation.rule.module
                original = path.read_text()
                path.write_text(mutation.content)
                try:
                    return _first_failure(copy, mutation.rule.tests)
                finally:
                    path.write_text(original)
                    free.append(copy)

            for mutation, noticed in zip(tried, pool.map(attempt, tried), strict=True):
                unnoticed += not noticed
                what = f"{mutation.rule.kind}: `{mutation.old}`"
                where = f"`{mutation.rule.module}:{mutation.line}`"
                print(f"| {what} | {where} | {noticed or '**no test**'} |", flush=True)
    print(f"\nmutations: {len(tried)} tried, {len(tried) - unnoticed} noticed by a test")
    return 1 if unnoticed else 0


@contextlib.contextmanager
def _processes() -> Iterator[int]:
    yield int(os.environ.get("TEST_PROCESSES", "1"))


def _copy(directory: pathlib.Path) -> pathlib.Path:
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, directory / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, directory)
    return directory


def _import_what_is_large() -> None:
    """Once, as each try is a forked child: importing it takes longer than the tests do."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import apache_beam.io.filesystems
    import google.cloud.storage
    import moto.server
    import pyarrow.parquet
    import tensorflow

    assert all((apache_beam, google.cloud.storage, moto.server, pyarrow.parquet, tensorflow))


def _first_failure(copy: pathlib.Path, tests: tuple[str, ...]) -> str:
    """Runs tests in a copy of the tree until one fails; its name, or ""."""
    log = copy / "log"
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _run_tests(copy, tests, log)
    _, status = os.waitpid(child, 0)
    if status == 0:
        return ""
    failures = re.findall(r"^(?:FAILED|ERROR) (\S+)", log.read_text(errors="replace"), re.MULTILINE)
    return f"`{failures[0]}`" if failures else f"`{tests[0]}` (exit status {status})"


def _run_tests(copy: pathlib.Path, tests: tuple[str, ...], log: pathlib.Path) -> None:
    code = 99
    try:
        signal.alarm(PATIENCE_SECONDS)
        with open(log, "wb") as file:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
        os.chdir(copy)
        sys.path[:] = [str(copy), *(path for path in sys.path if path not in ("", str(ROOT)))]
        for name in list(sys.modules):
            if name.partition(".")[0] in PACKAGES:
                del sys.modules[name]
        sys.dont_write_bytecode = True
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
    finally:
        sys.stdout.flush()
        os._exit(int(code))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
