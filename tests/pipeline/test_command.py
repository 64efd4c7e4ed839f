"""The installed command: a verb for each thing it does, and the name under which it was called."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

from pipeline import command
from pipeline.options.arguments import parse
from pipeline.output import run_record
from tests.helpers.commands import ROOT
from transforms.errors import UserError

VERSION = f"beam-image-features {importlib.metadata.version('beam-image-features')}"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process had been started by the installed command."""
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/beam-image-features"])


def python_m(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def called_here(verb: str, *words: str) -> int | str | None:
    """The exit code of a verb; that of run would end this process."""
    main = importlib.import_module(f"pipeline.{verb}").main
    try:
        return main(list(words))
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("verb", command.VERBS)
def test_the_help_of_a_verb_shows_how_it_was_called(verb, capsys, monkeypatch):
    for argv0, usage in (
        ("/usr/local/bin/beam-image-features", f"usage: beam-image-features {verb} "),
        ("/src/pipeline/__main__.py", f"usage: python -m pipeline.{verb} "),
        (f"/src/pipeline/{verb}.py", f"usage: python -m pipeline.{verb} "),
    ):
        monkeypatch.setattr(sys, "argv", [argv0])
        assert called_here(verb, "--help") in (0, None)
        assert capsys.readouterr().out.startswith(usage)


@pytest.mark.parametrize("verb", command.VERBS)
def test_each_verb_tells_the_version(verb, capsys):
    assert command.main([verb, "--version"]) == 0
    assert called_here(verb, "--version") in (0, None)
    assert capsys.readouterr().out == f"{VERSION}\n{VERSION}\n"


def test_the_command_tells_its_version_and_its_verbs(installed, capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{VERSION}\n"
    assert command.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: beam-image-features VERB")
    assert all(f"\n  {verb} " in out for verb in command.VERBS)


def test_without_a_verb_the_help_is_shown_and_it_is_a_mistake(installed, capsys):
    assert command.main([]) == 2
    assert capsys.readouterr().err.startswith("usage: beam-image-features VERB")


@pytest.mark.parametrize(
    ("verb", "meant"), [("satus", "status"), ("verfy", "verify"), ("Run", "run")]
)
def test_a_wrong_verb_is_told_in_one_line_with_the_nearest(verb, meant, installed, capsys):
    assert command.main([verb, "out"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {verb}: no such verb") and err.count("\n") == 1
    assert f"did you mean {meant}?" in err


@pytest.mark.parametrize("flags", [["--input", "photos"], ["--input=photos", "--output", "out"]])
def test_a_script_from_before_there_were_verbs_is_told_what_to_write(flags, installed, capsys):
    assert command.main(flags) == 2
    err = capsys.readouterr().err
    assert "write: beam-image-features run --input …" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["status", "out", "--jsn"], "--jsn: no such option; did you mean --json?"),
        (["status", "out", "--x"], "--x: no such option; --help lists them"),
        (["compact", "out", "--rows-per-file", "9"], "did you mean --rows_per_file?"),
        (["compact", "out", "--rows_per_fil=9"], "did you mean --rows_per_file?"),
        (["inspect", "m", "--signatur", "a"], "--signatur: no such option; did you mean --sig"),
        (["verify", "out", "--smaple", "9"], "--smaple: no such option; did you mean --sample?"),
        (["run", "status", "out"], "status: is no option of run; write: python -m pipeline.status"),
        (["run", "--input", "a", "--rows-per-file=9"], "did you mean --rows_per_file?"),
    ],
)
def test_a_typing_error_is_told_with_what_was_meant(words, told, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/src/pipeline/__main__.py"])
    assert called_here(*words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("verb", command.VERBS)
def test_an_argument_that_is_no_text_is_named(verb, tmp_path, capsys):
    word = str(tmp_path / "caf\udce9")
    if verb == "run":
        for words in (["--input", word], ["--input", "a", word], [f"--input={word}"]):
            assert called_here(verb, "--output", "b", *words) == 2
            err = capsys.readouterr().err
            assert err == f"error: --input {tmp_path}/caf\\xe9: is not UTF-8; rename it\n"
    else:
        assert called_here(verb, word) == 2
        err = capsys.readouterr().err
        assert err == f"error: {tmp_path}/caf\\xe9: is not UTF-8; rename it\n"


def test_python_m_pipeline_is_the_same_command():
    done = python_m("pipeline", "inspect", "--nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert python_m("pipeline", "run", "--version").stdout == f"{VERSION}\n"


def test_what_tells_that_an_image_has_changed_is_still_called_version():
    paths = ["--input", "in", "--output", "out"]
    assert parse(paths).version == "mtime"
    for words in (["--version", "sha256"], ["--version=sha256"]):
        assert parse([*paths, *words]).version == "sha256"
        assert parse([*words, *paths]).version == "sha256"


def test_a_value_that_came_out_empty_is_no_question_for_the_version():
    for words in (
        ["--version", "--input", "in", "--output", "out"],
        ["--input", "in", "--version"],
    ):
        with pytest.raises(UserError, match="--version: expected one argument"):
            parse(words)


def test_beam_is_imported_only_for_a_verb():
    code = "import sys, pipeline.command; print('apache_beam' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_the_command_that_the_run_record_keeps_is_the_one_that_was_typed(installed):
    assert run_record.command_line(["--input", "in"]) == "beam-image-features run --input in"
