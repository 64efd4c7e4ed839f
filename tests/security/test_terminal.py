"""No name, address or answer from outside reaches a terminal as anything but text."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest

from pipeline.output.observer import Observer
from pipeline.output.state import tell
from pipeline.terminal import failures, lines
from pipeline.terminal.errors import told
from pipeline.terminal.status_text import status_lines
from pipeline.terminal.streams import shown
from tests.helpers.commands import ROOT, run
from tests.helpers.outputs import A, commit, opened
from transforms.errors import Parameter, UserError

# Sets the clipboard; clears the screen; moves up; the same with one character of C1; turns text.
CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x07"
HOSTILE = [
    CLIPBOARD,
    "\x1b[2J",
    "\x1b[1A\rfailed",
    "\x9b2J",
    "\x7f",
    "\u202egpj.exe",
    "\u2066",
    "\0",
]
BEGIN = "import json, sys\nfrom pipeline.terminal import streams\nstreams.outlast()\n"


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_everything_that_is_printed_is_text() -> None:
    code = (
        f"hostile = {HOSTILE!r}\n"
        "print(*hostile, sep='\\n'); print(*hostile, sep='\\n', file=sys.stderr)\n"
        "print(json.dumps(hostile)); print(json.dumps(hostile, ensure_ascii=False))\n"
        "print('a\\tb …')\n"
    )
    done = run([sys.executable, "-c", BEGIN + code], cwd=ROOT)
    assert done.code == 0, done.err
    *text, ascii_only, as_it_is, good = done.out.splitlines()
    assert done.err.splitlines() == text
    assert text[0] == r"\u001b]52;c;cm0gLXJmIH4=\u0007"
    assert is_harmless("\n".join([*text, ascii_only, as_it_is]))
    assert json.loads(ascii_only) == json.loads(as_it_is) == HOSTILE  # JSON stays JSON
    assert good == "a\tb …"


def test_our_own_sequences_still_work() -> None:
    code = "streams.controlling(sys.stdout).write('\\x1b[2F\\x1b[J'); print('\\x1b[J')"
    done = run([sys.executable, "-c", BEGIN + code], cwd=ROOT)
    assert done.out == "\x1b[2F\x1b[J\\u001b[J\n"


@pytest.mark.parametrize("hostile", [*HOSTILE, "\nfailed: all is lost"])
def test_a_line_stays_one_line_of_text(hostile: str, capsys, tmp_path: pathlib.Path) -> None:
    """Suffixes of files, URIs, what servers answer: whatever a message is made of."""
    error = UserError("HTTP 500 ", hostile, subject=Parameter("model", f"http://h/{hostile}"))
    lines.say(f"passed over 1 other file (1 .{hostile})", told(error))
    said = capsys.readouterr().err
    assert is_harmless(said)
    assert len(said.splitlines()) == 2
    assert shown(hostile) in said
    kept = failures.keep_traceback(RuntimeError(hostile))
    assert kept is not None
    text = pathlib.Path(kept).read_text()
    pathlib.Path(kept).unlink()
    assert is_harmless(text)


@pytest.mark.parametrize("hostile", [CLIPBOARD, "\nstate        finished"])
def test_what_a_record_says_is_told_as_text(tmp_path: pathlib.Path, hostile: str) -> None:
    commit(tmp_path, A, 1)
    (tmp_path / "_plan").mkdir()
    plan = {"run_id": hostile, "arguments": ["--input", hostile], "started": hostile}
    plan |= {"matched": 1, "todo": 1, "shards": []}
    (tmp_path / "_plan" / "0123456789ab.json").write_text(json.dumps(plan))
    status = tell(Observer(opened(tmp_path)).look())
    assert status.state == "interrupted"
    told_lines = status_lines(status)
    assert any(shown(hostile) in line for line in told_lines)
    assert all(line.isprintable() for line in told_lines)
