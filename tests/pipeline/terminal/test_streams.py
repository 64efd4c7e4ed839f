"""Standard streams that were closed before the start, and readers that go away."""

from __future__ import annotations

import os
import sys

import pytest

from pipeline.terminal import streams
from tests.helpers.commands import ROOT, Finished, run

BEGIN = "import os, sys\nfrom pipeline.terminal import streams\nstreams.outlast()\n"


def python(code: str, shell: str = "") -> Finished:
    """Runs a few lines of Python with the redirections of a shell."""
    return run(["bash", "-c", f'exec "$0" -c "$CODE" {shell}', sys.executable], **with_code(code))


def with_code(code: str) -> dict[str, object]:
    return {"env": os.environ | {"CODE": BEGIN + code}, "cwd": ROOT}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(closed: str, tmp_path) -> None:
    """Else what a library prints would be written into it."""
    code = (
        f"file = open({str(tmp_path / 'data')!r}, 'w')\n"
        "assert file.fileno() > 2, file.fileno()\n"
        "print('words'); print('words', file=sys.stderr); os.write(1, b'w'); os.write(2, b'w')\n"
        "os.system('echo words; echo words >&2')\n"
        "file.write('data'); sys.exit(7)\n"
    )
    assert python(code, closed).code == 7
    assert (tmp_path / "data").read_text() == "data"


def test_a_reader_that_went_away_is_no_error_for_anybody() -> None:
    """Neither for Python, nor for native code and children, which write to the descriptor."""
    reader, writer = os.pipe()
    os.close(reader)
    code = (
        "print('words', flush=True); print('words', file=sys.stderr, flush=True)\n"
        "for number in (1, 2): os.write(number, b'words')\n"
        "assert streams.reader_is_gone(); sys.exit(7)\n"
    )
    done = run([sys.executable, "-c", BEGIN + code], cwd=ROOT, stdout=writer, stderr=writer)
    os.close(writer)
    assert done.code == 7


def test_what_cannot_be_encoded_is_told_in_another_way() -> None:
    code = "print('a\\udcff…'); print(streams.reader_is_gone())"
    done = run(
        [sys.executable, "-c", BEGIN + code],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert (done.code, done.out) == (0, "a\\udcff\\u2026\nFalse\n")


def test_what_a_disk_does_not_take_is_told() -> None:
    code = "print('words', flush=True); print(streams.lost().strerror, file=sys.stderr)"
    done = python(code, ">/dev/full")
    assert (done.code, done.err) == (0, "No space left on device\n")


def test_streams_of_others_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    streams.outlast()
    assert (sys.stdout, sys.stderr) == before
    print("words")
    assert not streams.reader_is_gone()
    assert capsys.readouterr().out == "words\n"
