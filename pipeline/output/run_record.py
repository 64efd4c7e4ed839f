"""Whose an output is and what was done in it: its fingerprint, `_run.json`, `_SUCCESS`.

`_run.json` and `_SUCCESS` are written last, for people and schedulers; nothing here decides by
them.
"""

from __future__ import annotations

import datetime
import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from pipeline.options import program
from pipeline.output.directory import Output
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.layout import (
    COPIES_DIRECTORY,
    ERRORS_DIRECTORY,
    JOURNAL_FILE,
    LEASE_FILE,
    PLAN_DIRECTORY,
    RUN_FILE,
    SNAPSHOT_FILE,
    STAGING_DIRECTORY,
    SUCCESS_FILE,
    is_ours,
    is_part_name,
    is_temporary,
)
from transforms.errors import UserError, one_line

_SECRET = re.compile(r"secret|token|password|access_key|key_id|connection_string")


def overwrite(output: Output) -> None:
    """Deletes an earlier output; the lease stays.

    First the signs that it is finished, then the parts, then what parts refer to, last a journal:
    killed at any moment it leaves a directory that can be continued.
    """
    order = {SUCCESS_FILE: 0, RUN_FILE: 0, SNAPSHOT_FILE: 0, JOURNAL_FILE: 3}
    names = [name for name in storage.list_names(output.directory) if is_ours(name)]
    names.sort(key=lambda name: order.get(name, 1 if is_part_name(name) else 2))
    storage.delete([output.path(name) for name in names if name != LEASE_FILE])
    output.parts.clear()


def refuse_other_settings(output: Output, fingerprint: dict[str, str]) -> None:
    """Reads the footers of the parts: an output directory belongs to one fingerprint.

    Raises:
      UserError: a part cannot be read, or was made with other settings; the message says which.
    """
    try:
        output.refresh()
    except (ValueError, OSError) as error:
        raise UserError(
            f"--output {output.directory}: a part cannot be read: {one_line(error)}; delete that "
            "file to compute its images again, or give --overwrite to start anew"
        ) from error
    for part in output.parts.values():
        differing = differences(part.fingerprint, fingerprint)
        if differing:
            raise UserError(
                f"--output {output.directory}: made with other settings: {'; '.join(differing)}. "
                "Give another --output, or --overwrite to start anew"
            )


def differences(was: dict[str, str], now: dict[str, str]) -> list[str]:
    """The settings in which two fingerprints differ, with old and new value.

    >>> differences({"engine": "tensorflow", "task": "x"}, {"engine": "openvino", "task": "x"})
    ['engine was tensorflow, is openvino']
    """
    return [
        f"{name} was {was.get(name)}, is {now.get(name)}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    ]


def clear_temporaries(output: Output) -> None:
    """Deletes what killed runs left behind: nothing refers to it, and it may fill the disk."""
    directories = [output.directory, output.path(STAGING_DIRECTORY)]
    directories += [storage.join(directory, ERRORS_DIRECTORY) for directory in directories]
    for directory in directories:
        names = [name for name in storage.list_names(directory) if is_temporary(name)]
        storage.delete([storage.join(directory, name) for name in names])
    storage.delete([output.path(COPIES_DIRECTORY)])


def start(output: Output, run: dict[str, Any]) -> None:
    """Says which run is at work, and takes back what says that the output is finished."""
    storage.delete([output.path(SUCCESS_FILE), output.path(RUN_FILE)])
    storage.write_text(output.path(PLAN_DIRECTORY, f"{run['run_id']}.json"), _json(run))


def read_report(output: Output) -> dict[str, Any] | None:
    """`_run.json` of the last finished run; None if there is none.

    Raises:
      ValueError: it is damaged; the message names it.
    """
    return _read_json(output.path(RUN_FILE))


def update_part_count(output: Output) -> None:
    """Puts into `_run.json` how many parts there are after they were gathered."""
    report = read_report(output)
    if report is not None:
        report["counts"]["parts"] = len(output.parts)
        storage.write_text(output.path(RUN_FILE), _json(report))


def read_started(output: Output) -> dict[str, Any] | None:
    """What `start` wrote for a run that is at work or was interrupted; None if there is none.

    Raises:
      ValueError: it is damaged; the message names it.
    """
    directory = output.path(PLAN_DIRECTORY)
    names = [name for name in storage.list_names(directory) if name.endswith(".json")]
    paths = sorted((storage.join(directory, name) for name in names), key=storage.modified)
    return _read_json(paths[-1]) if paths else None


def finish(output: Output, report: dict[str, Any], succeeded: bool) -> None:
    """Clears what was temporary, then writes `_snapshot.json`, `_run.json` and `_SUCCESS`.

    Args:
      output: with all its parts.
      report: what goes into `_run.json`.
      succeeded: whether there will be a `_SUCCESS`.
    """
    named = set(output.files)
    errors = [
        f"{ERRORS_DIRECTORY}/{name}" for name in storage.list_names(output.path(ERRORS_DIRECTORY))
    ]
    storage.delete([output.path(name) for name in errors if name not in named])
    storage.delete([output.path(name) for name in (PLAN_DIRECTORY, STAGING_DIRECTORY)])
    before = snapshot.read_snapshot(output.directory)
    if before.generation == 0 or set(before.checksums) != named:
        snapshot.write_snapshot(output.directory, before.generation + 1, output.files)
    storage.write_text(output.path(RUN_FILE), _json(report))
    if succeeded:
        storage.write_text(output.path(SUCCESS_FILE), "")


def without_secrets(argv: Sequence[str]) -> list[str]:
    """The words of a command line, with *** for the values of secret options."""
    words = []
    for before, word in zip(["", *argv], argv, strict=False):
        flag, equals, _ = word.partition("=")
        if equals and _SECRET.search(flag):
            word = f"{flag}=***"
        elif "=" not in before and before.startswith("--") and _SECRET.search(before):
            word = "***"
        words.append(word)
    return words


def command_line(argv: Sequence[str]) -> str:
    """The command as it could be typed again, without the values of secret options."""
    return shlex.join([*program.called("run").split(), *without_secrets(argv)])


def _read_json(path: str) -> dict[str, Any] | None:
    if not storage.exists(path):
        return None
    try:
        with storage.open_input(path) as file:
            content = json.loads(file.read())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: not an object")
    return content


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def iso(seconds: float) -> str:
    """A time since the epoch as people and programs read it, UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
