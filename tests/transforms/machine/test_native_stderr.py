"""What libraries write past Python's logging: known noise is dropped, all else appears."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.commands import ROOT, run, run_python
from transforms.machine import native_stderr


def test_known_lines_are_dropped_and_others_appear(capfd) -> None:
    with native_stderr.without(native_stderr.LIBJPEG) as kept:
        os.write(
            2, b"Input file read error\nsomething else\nCorrupt JPEG data: 3 extraneous bytes\n"
        )
        os.write(2, b"Input file read error\n")
    assert kept == ["Input file read error", "Corrupt JPEG data: 3 extraneous bytes"]
    os.write(2, b"Input file read error\n")
    assert capfd.readouterr().err == "something else\nInput file read error\n"


def test_what_is_held_back_is_shown_if_the_body_fails(capfd) -> None:
    with native_stderr.shown_if_it_fails():
        os.write(2, b"greetings\n")
    assert capfd.readouterr().err == ""
    with pytest.raises(RuntimeError), native_stderr.shown_if_it_fails():
        os.write(2, b"the cause\n")
        raise RuntimeError
    assert "the cause" in capfd.readouterr().err


def test_a_closed_stderr_is_no_error() -> None:
    code = (
        "from transforms.machine import native_stderr as n\n"
        "with n.without(n.LIBJPEG): print('in')\n"
        "with n.shown_if_it_fails(): print('in')\n"
    )
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$CODE" 2>&-'],
        env={**os.environ, "CODE": code},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "in\nin\n")


def test_a_file_that_has_the_number_of_a_closed_stderr_gets_no_words(tmp_path) -> None:
    code = (
        "import os, sys\n"
        "from transforms.machine import native_stderr as n\n"
        "data = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)\n"
        "assert data == 2\n"
        "with n.without((b'a',)): os.write(data, b'a\\n'); print(os.fstat(data).st_size)\n"
        "with n.shown_if_it_fails(): os.write(data, b'a\\n'); print(os.fstat(data).st_size)\n"
    )
    command = [
        "bash",
        "-c",
        'exec "$@" 2>&-',
        "bash",
        sys.executable,
        "-c",
        code,
        tmp_path / "data",
    ]
    done = run(command)
    assert (done.code, done.out) == (0, "2\n4\n")


def test_where_nothing_can_be_held_back_what_python_prints_appears(monkeypatch, capfd) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with open(2, "w", buffering=1, closefd=False) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with native_stderr.shown_if_it_fails():
            print("a word", file=sys.stderr)
    assert capfd.readouterr().err == "a word\n"


def test_a_reader_that_went_away_is_no_error(monkeypatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    before = os.dup(2)
    os.dup2(writer, 2)
    try:
        with open(2, "w", buffering=1, closefd=False) as stderr:
            monkeypatch.setattr(sys, "stderr", stderr)
            with native_stderr.without((b"a",)):
                os.write(2, b"b\n")
            with pytest.raises(RuntimeError, match="x"), native_stderr.shown_if_it_fails():
                os.write(2, b"b\n")
                raise RuntimeError("x")
    finally:
        os.dup2(before, 2)
        for number in (before, writer):
            os.close(number)


def test_the_last_words_of_a_process_that_ends_at_once_appear() -> None:
    code = (
        "import os, threading\n"
        "from transforms.machine import native_stderr as n\n"
        "held, end = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with n.without(n.LIBJPEG):\n"
        "        held.set(); end.wait()\n"
        "threading.Thread(target=hold, daemon=True).start()\n"
        "held.wait(); n.give_back(); os.write(2, b'last words'); os._exit(3)\n"
    )
    done = run_python(code)
    assert (done.code, done.err) == (3, "last words")


def test_where_there_is_no_room_nothing_is_held_back(monkeypatch, capfd) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with native_stderr.without(native_stderr.LIBJPEG):
        os.write(2, b"Input file read error\n")
    assert capfd.readouterr().err == "Input file read error\n"
