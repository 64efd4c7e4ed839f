"""Whose an output is and what was done in it: its fingerprint, `_run.json`, `_SUCCESS`.

`_run.json` and `_SUCCESS` are written last, for people and schedulers; nothing here decides by
them.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shlex
from collections.abc import Sequence
from typing import Any

from pipeline.options import program
from pipeline.options.written import written
from pipeline.output import previous
from pipeline.output.directory import Output
from pipeline.output.previous import Keeping
from pipeline.output.publish import Look
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.layout import (
    COPIES_DIRECTORY,
    ERRORS_DIRECTORY,
    PLAN_DIRECTORY,
    RUN_FILE,
    STAGING_DIRECTORY,
    SUCCESS_FILE,
    is_errors_name,
    is_started_name,
    is_temporary,
)
from transforms.dataset.own_files import read_object, refuse_links
from transforms.dataset.part import FINGERPRINT_DEFAULTS
from transforms.dataset.stored_json import (
    Kind,
    check_kinds,
    either,
    is_count,
    is_flag,
    is_null,
    is_number,
    is_text,
    list_of,
    object_of,
)
from transforms.errors import UserError, one_line

# What is read back of a run, at work or over. Earlier programs did not write all of it.
_READ_BACK: dict[str, Kind] = {
    "run_id": is_text,
    "command": is_text,
    "arguments": list_of(is_text),
    "started": is_text,
    "ended": is_text,
    "succeeded": is_flag,
    "counts": object_of(is_count),
    "stale": list_of(is_text),
    "max_error_rate": either(is_null, is_number),
    "unreadable": list_of(lambda found: isinstance(found, dict) and is_text(found.get("uri"))),
    "model_sha256": is_text,
}


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


def is_of_other_settings(output: Output, fingerprint: dict[str, str]) -> bool:
    """Whether a part of a directory cannot be read, or was made with other settings."""
    try:
        refuse_other_settings(output, fingerprint)
    except UserError:
        return True
    return False


def differences(was: dict[str, str], now: dict[str, str]) -> list[str]:
    """The settings in which two fingerprints differ, with old and new value.

    One that an earlier program did not know had its default then.

    >>> differences({"engine": "tensorflow", "task": "x"}, {"engine": "openvino", "task": "x"})
    ['engine was tensorflow, is openvino']
    >>> differences({"task": "x"}, {"task": "x", "value_range": "0,255"})
    ['value_range was 0,1, is 0,255']
    """
    was, now = FINGERPRINT_DEFAULTS | was, FINGERPRINT_DEFAULTS | now
    return [
        f"{name} was {was.get(name)}, is {now.get(name)}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    ]


def clear_temporaries(output: Output) -> None:
    """Deletes what killed runs left behind: nothing refers to it, and it may fill the disk."""
    directories = [output.directory, output.path(STAGING_DIRECTORY)]
    directories += [storage.join(directory, ERRORS_DIRECTORY) for directory in directories]
    refuse_links(output.directory)
    for directory in directories:
        names = [name for name in storage.list_names(directory) if is_temporary(name)]
        storage.delete([storage.join(directory, name) for name in names])
    storage.delete([output.path(COPIES_DIRECTORY)])


def start(output: Output, run: dict[str, Any]) -> None:
    """Says which run is at work and what it has to do."""
    storage.write_text(output.path(PLAN_DIRECTORY, f"{run['run_id']}.json"), _json(run))


def read_report(output: Output) -> dict[str, Any] | None:
    """`_run.json` of the last finished run; None if there is none.

    Raises:
      ValueError: it is damaged; the message names it.
    """
    return _read_json(output.path(RUN_FILE))


def update_part_count(output: Output) -> None:
    """Puts into `_run.json` how many parts there are after they were gathered."""
    with contextlib.suppress(ValueError, KeyError, TypeError):  # damaged: `verify` tells
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
    names = [name for name in storage.list_names(directory) if is_started_name(name)]
    paths = sorted((storage.join(directory, name) for name in names), key=storage.modified)
    return _read_json(paths[-1]) if paths else None


def finish_unpublished(output: Output, report: dict[str, Any], look: Look) -> None:
    """Writes `_run.json` of a run that failed its checks; what readers go by stays as it is."""
    look()
    storage.write_text(output.path(RUN_FILE), _json(report))
    storage.delete([output.path(PLAN_DIRECTORY)])


def finish(output: Output, report: dict[str, Any], keeping: Keeping, look: Look) -> None:
    """Clears what was temporary, then writes `_snapshot.json`, `_run.json` and `_SUCCESS`.

    Args:
      output: with all its parts.
      report: what goes into `_run.json`.
      keeping: how long what was replaced stays for those who read it.
      look: raises if the output is another run's by now.
    """
    named = set(output.files)
    errors = [
        f"{ERRORS_DIRECTORY}/{name}"
        for name in storage.list_names(output.path(ERRORS_DIRECTORY))
        if is_errors_name(name) or is_temporary(name)
    ]
    look()
    refuse_links(output.directory)
    storage.delete([output.path(name) for name in errors if name not in named])
    storage.remove_if_empty(output.path(ERRORS_DIRECTORY))
    look()
    storage.delete([output.path(name) for name in (PLAN_DIRECTORY, STAGING_DIRECTORY)])
    state = snapshot.update_snapshot(output.directory, output.files, look)
    look()
    previous.clear(output, state.generation, keeping)
    look()
    storage.write_text(output.path(RUN_FILE), _json(report))
    storage.write_text(output.path(SUCCESS_FILE), "")


def command_line(argv: Sequence[str]) -> str:
    """The command as it could be typed again, but for the values that are not written."""
    return shlex.join([*program.called("run").split(), *written(argv)])


def _read_json(path: str) -> dict[str, Any] | None:
    found = read_object(path)
    if found is not None:
        try:
            check_kinds(found, {}, _READ_BACK)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    return found


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def iso(seconds: float) -> str:
    """A time since the epoch as people and programs read it, UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
