"""Whatever JSON lies in an output is told in one line: another type, too much, or no end of it."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.checks.parts import check_parts
from pipeline.checks.sample import Sample
from pipeline.output import lease, observer, run_record
from pipeline.output.directory import Output
from pipeline.output.holder import Lease, this_machine
from pipeline.output.journal import read_journal
from pipeline.output.state import Status, tell
from pipeline.planning.plan import Plan
from pipeline.planning.shards import plan_shards
from tests.helpers.leases import elsewhere
from tests.helpers.limits import within_limits
from tests.helpers.outputs import A, commit, opened
from transforms.dataset import snapshot
from transforms.dataset.part import FOOTER_KEY, read_part
from transforms.dataset.warned import WARNINGS_KEY, read_warnings
from transforms.errors import CorruptImageError, UserError

HERE = Lease("0123456789ab", "host", os.getpid(), this_machine(), None, 1.0, 2.0)


@pytest.fixture
def output(tmp_path: pathlib.Path) -> pathlib.Path:
    """A finished output."""
    commit(tmp_path, A, 2, [CorruptImageError("x")])
    found = opened(tmp_path)
    snapshot.write_snapshot(found.directory, 1, found.files)
    return tmp_path


def look(directory: str) -> Status:
    return tell(observer.Observer(Output(directory)).look())


def read_lease(directory: str) -> Lease | None:
    return lease.read_lease(Output(directory))


def report(directory: str) -> object:
    return run_record.read_report(Output(directory))


def started(directory: str) -> object:
    return run_record.read_started(Output(directory))


def journal(directory: str) -> object:
    return read_journal(Output(directory))


# Footers of parts


def with_metadata(part: pathlib.Path, key: bytes, value: bytes) -> None:
    table = pq.read_table(part)
    metadata = dict(pq.read_metadata(part).metadata) | {key: value}
    pq.write_table(table.replace_schema_metadata(metadata), part)


@pytest.mark.parametrize(
    "values",
    [
        {"shard": 7},
        {"shard": "../x"},
        {"rows": "2"},
        {"rows": None},
        {"rows": -1},
        {"errors": 1.5},
        {"errors": True},
        {"errors_file": 7},
        {"errors_file": []},
        {"seconds": 7},
        {"seconds": {"read": "1"}},
        {"seconds": {"read": float("inf")}},
        {"fingerprint": ["task"]},
        {"fingerprint": {"task": 7}},
        {"versions": "2.21"},
        {"warnings": {"jpeg": "many"}},
        {"format_version": "1"},
        {"program": 7},
    ],
)
def test_a_footer_with_another_type_is_told_in_one_line(
    output: pathlib.Path, values: dict[str, object]
) -> None:
    part = output / f"part-{A}.parquet"
    footer = json.loads(pq.read_metadata(part).metadata[FOOTER_KEY]) | values
    with_metadata(part, FOOTER_KEY, json.dumps(footer).encode())
    with pytest.raises(ValueError, match="was not written by this program") as info:
        read_part(str(part))
    [name] = values
    assert f"{part} " in str(info.value)
    assert name in str(info.value)
    [unreadable] = look(str(output)).unreadable
    assert str(part) in unreadable


@pytest.mark.parametrize("footer", [b"7", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b""])
def test_a_footer_that_is_no_object_is_told_in_one_line(
    output: pathlib.Path, footer: bytes
) -> None:
    part = output / f"part-{A}.parquet"
    with_metadata(part, FOOTER_KEY, footer)
    with pytest.raises(ValueError, match="was not written by this program"):
        read_part(str(part))


@pytest.mark.parametrize("found", [b"7", b"{}", b'[{"id": 7}]', b'["a"]', b'[{"a": "b"}]', b"[["])
def test_warnings_of_another_type_are_told_in_one_line(output: pathlib.Path, found: bytes) -> None:
    part = output / f"part-{A}.parquet"
    with_metadata(part, WARNINGS_KEY, found)
    with pytest.raises(ValueError, match="its warnings are damaged"):
        read_warnings(str(part))


# Leases


@pytest.mark.parametrize(
    "values",
    [
        {"pid": "self"},
        {"pid": f"{os.getpid()}/task/../../1"},
        {"pid": 0},
        {"run_id": 7},
        {"run_id": "\x1b]52;c;cm0gLXJmIH4=\x07"},
        {"host": "a\nfailed: pay somebody"},
        {"machine": None},
        {"process_started": "1"},
        {"since": "yesterday"},
        {"since": 1e30},
        {"since": float("nan")},
        {"renewed": None},
        {"renewed": 1e300},
    ],
)
def test_a_lease_with_another_type_is_told_in_one_line(
    output: pathlib.Path, values: dict[str, object]
) -> None:
    (output / "_lease.json").write_text(json.dumps(dataclasses.asdict(HERE) | values))
    with pytest.raises(UserError, match="is damaged") as info:
        read_lease(str(output))
    [name] = values
    assert name in str(info.value)
    assert str(info.value).isprintable()


def test_a_lease_without_a_start_of_its_process_is_dead(output: pathlib.Path) -> None:
    """Of no process that is there, none is known either: both are not the same process."""
    ended = dataclasses.replace(HERE, pid=2**30)
    for held in (HERE, ended):
        (output / "_lease.json").write_text(json.dumps(dataclasses.asdict(held)))
        assert lease.refuse_if_held(Output(str(output))) is not None
        assert not look(str(output)).live


@pytest.mark.parametrize("seconds", [120, 86400, 1e9])
def test_a_lease_of_the_future_is_not_live_for_ever(output: pathlib.Path, seconds: float) -> None:
    held = elsewhere(renewed=time.time() + seconds)
    (output / "_lease.json").write_text(json.dumps(dataclasses.asdict(held)))
    assert not look(str(output)).live


# What is too much


READERS: dict[str, Callable[[str], object]] = {
    "_lease.json": read_lease,
    "_snapshot.json": snapshot.read_snapshot,
    "_publish.json": journal,
    "_run.json": report,
    "_plan/0123456789ab.json": started,
}


def put(output: pathlib.Path, name: str, text: str, size: int = 0) -> None:
    path = output / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    if size:
        os.truncate(path, size)


@pytest.mark.parametrize("name", READERS)
def test_a_file_without_end_is_not_read(output: pathlib.Path, name: str) -> None:
    put(output, name, "{", size=2**40)
    with pytest.raises(ValueError, match=f"{name}.*has more than .* bytes"):
        within_limits(READERS[name], str(output), more_bytes=2**26)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("text", ["[" * 65_000, '{"a":' * 10_000, "7", "[]", "", "{"])
def test_what_is_no_object_is_told_in_one_line(output: pathlib.Path, name: str, text: str) -> None:
    put(output, name, text)
    with pytest.raises(ValueError, match=name) as info:
        READERS[name](str(output))
    assert len(str(info.value).splitlines()) == 1


@pytest.mark.parametrize("name", [name for name in READERS if name != "_lease.json"])
def test_so_many_lists_are_not_made(output: pathlib.Path, name: str) -> None:
    """Each takes 56 bytes of memory and more, and three in the file."""
    put(output, name, '{"moves": [' + "[]," * 5_000_000 + "[]]}")
    with pytest.raises(ValueError, match="lists and objects"):
        within_limits(READERS[name], str(output), more_bytes=2**27)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("_run.json", {"arguments": "--model x"}),
        ("_run.json", {"arguments": [7]}),
        ("_run.json", {"counts": {"rows": "many"}}),
        ("_run.json", {"succeeded": "yes"}),
        ("_run.json", {"unreadable": [7]}),
        ("_run.json", {"max_error_rate": "0.1"}),
        ("_run.json", {"stale": 7}),
        ("_plan/0123456789ab.json", {"arguments": {}}),
        ("_plan/0123456789ab.json", {"run_id": 7}),
    ],
)
def test_a_record_with_another_type_is_told_in_one_line(
    output: pathlib.Path, name: str, values: dict[str, object]
) -> None:
    put(output, name, json.dumps({"run_id": "0123456789ab", "arguments": []} | values))
    with pytest.raises(ValueError, match=f"{name} is damaged: {next(iter(values))}"):
        READERS[name](str(output))
    assert any(name in text for text in look(str(output)).unreadable)


# Columns of other types


def rewritten(path: pathlib.Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes the table of a Parquet file, and keeps what its footer says."""
    metadata = pq.read_metadata(path).metadata
    table = change(pq.ParquetFile(path).read().replace_schema_metadata(None))
    pq.write_table(table.replace_schema_metadata(metadata), path)


def without_vectors(table: pa.Table) -> pa.Table:
    return table.drop_columns("feature_vector")


def vectors_as_text(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("feature_vector")
    return table.set_column(at, "feature_vector", pa.array(["x"] * len(table)))


def ids_as_numbers(table: pa.Table) -> pa.Table:
    return table.set_column(0, "id", pa.array([[n] for n in range(len(table))]))


def no_ids(table: pa.Table) -> pa.Table:
    return table.drop_columns("id")


@pytest.mark.parametrize("change", [without_vectors, vectors_as_text, ids_as_numbers, no_ids])
def test_rows_of_other_columns_are_told_in_one_line(
    output: pathlib.Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    rewritten(output / f"part-{A}.parquet", change)
    names = [f"part-{A}.parquet"]
    checked = check_parts(opened(output), names, snapshot.Snapshot(), Sample(9, 0))
    assert any("has not the columns of a part" in problem for problem in checked.problems)
    if "id" in change.__name__:
        with pytest.raises(UserError, match=names[0]):
            list(opened(output).ids())


@pytest.mark.parametrize("change", [ids_as_numbers, no_ids])
def test_error_rows_of_other_columns_are_told_in_one_line(
    output: pathlib.Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    [path] = (output / "_errors").iterdir()
    rewritten(path, change)
    names = [f"part-{A}.parquet"]
    checked = check_parts(opened(output), names, snapshot.Snapshot(), Sample(9, 0))
    assert any("has not the columns of error rows" in problem for problem in checked.problems)
    with pytest.raises(UserError, match=path.name):
        list(opened(output).ids())
    rewritten(path, lambda table: pa.table({"error_type": [1]}))
    assert any(path.name in text for text in look(str(output)).unreadable)


def test_a_damaged_plan_is_told_in_one_line(output: pathlib.Path) -> None:
    put(output, "_plan/0123456789ab-00000.parquet", "PAR1")
    plan = Plan(todo=[], computes=0, matched=0)
    with pytest.raises(UserError, match=r"_plan/0123456789ab-00000\.parquet.*is damaged"):
        plan_shards(plan, opened(output), "0123456789ac", 10, 1)
    path = output / "_plan" / "0123456789ab-00000.parquet"
    pq.write_table(pa.table({"id": [1]}), path)
    with pytest.raises(UserError, match="is damaged"):
        plan_shards(plan, opened(output), "0123456789ac", 10, 1)
