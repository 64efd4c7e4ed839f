"""What the person at the terminal meets: messages, exit codes, resume, refusals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pandas as pd
import pytest

from pipeline import __version__
from tests.helpers.commands import PATIENCE_SECONDS, run, run_command, start
from tests.helpers.images import write_random_images
from tests.helpers.jobs import waits
from tests.helpers.tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    directory = tmp_path_factory.mktemp("few")
    write_random_images(directory, 50)
    return directory


def test_five_lines_at_the_end_and_a_report(images, tiny_model, tmp_path):
    out = tmp_path / "out"
    done = run_command("--input", images, "--output", out, "--model", tiny_model)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == ["images", "errors", "rate", "time", "output"]
    assert str(out) in lines[-1]
    assert len(done.err.splitlines()) == 3, f"only what was asked for: {done.err}"
    report = json.loads((out / "_run.json").read_text())
    assert report["counts"]["matched"] == report["counts"]["rows"] == 50
    assert report["succeeded"] and (out / "_SUCCESS").exists()
    assert report["fingerprint"]["image_size"] == "16x16"
    assert report["versions"]["beam-image-features"] == __version__
    assert sorted(os.listdir(out)) == sorted(
        ["_SUCCESS", "_run.json", "_snapshot.json", *(p.name for p in out.glob("part-*.parquet"))]
    )


def test_the_same_command_again_does_only_what_is_left(images, tiny_model, run_here, tmp_path):
    out, more = tmp_path / "out", tmp_path / "more"
    arguments = ("--output", out, "--model", tiny_model, "--rows_per_file", 10)
    assert run_here("--input", images, *arguments).code == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    again = run_here("--input", images, *arguments)
    assert again.code == 0
    assert "50 matched: 0 rows and 0 errors now, 50 done before" in again.out
    write_random_images(more, 7)
    third = run_here("--input", images, more, *arguments)
    assert "57 matched: 7 rows and 0 errors now, 50 done before" in third.out
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert pd.read_parquet(out)["id"].is_unique and len(pd.read_parquet(out)) == 57


def test_a_lost_part_is_computed_again(images, tiny_model, run_here, tmp_path):
    out = tmp_path / "out"
    arguments = ("--input", images, "--output", out, "--model", tiny_model, "--rows_per_file", 10)
    assert run_here(*arguments).code == 0
    table = pd.read_parquet(out).set_index("id").sort_index()
    lost = sorted(out.glob("part-*.parquet"))[2]
    lost.unlink()
    assert run_here(*arguments).code == 0
    again = pd.read_parquet(out).set_index("id").sort_index()
    pd.testing.assert_frame_equal(table, again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "{tmp}/nothing*.jpg"], "{tmp}/nothing*.jpg: matches no file"),
        (["--input", "{tmp}/empty"], "{tmp}/empty: no images in this directory"),
        (["--input", "{images}", "--model", "{tmp}/none"], "{tmp}/none: no such file or directory"),
        (["--input", "{images}", "--model", "{tmp}/empty"], "{tmp}/empty: no saved_model.pb"),
        (["--input", "{images}", "--batchsize", "8"], "did you mean --batch_size"),
        (["--input", "{images}", "--image_size", "big"], "--image_size big: give HEIGHTxWIDTH"),
        (["--input", "{images}", "--top_k", "3"], "--top_k needs --task classification"),
        (["--input", "{images}", "--keep", "a"], "--keep takes features of TFRecord files"),
        (["--input", "{images}", "--batch_size", "0"], "--batch_size: 0 is not"),
        (["--input", "{images}", "--model", "{model}", "--image_size", "8x8"], "takes 16x16 only"),
        ([], "--input is missing"),
    ],
)
def test_a_mistake_is_one_line_exit_2_and_nothing_written(
    arguments, message, images, tiny_model, run_here, tmp_path
):
    (tmp_path / "empty").mkdir()
    places = {"tmp": tmp_path, "images": images, "model": tiny_model}
    done = run_here(
        *(argument.format(**places) for argument in arguments), "--output", tmp_path / "out"
    )
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("error: ")
    assert message.format(**places) in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_a_directory_with_other_files_is_refused(images, tiny_model, run_here, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for flags in ([], ["--overwrite"]):
        done = run_here("--input", images, "--output", tmp_path, "--model", tiny_model, *flags)
        assert done.code == 2
        assert "thesis.tex" in done.err
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_other_settings_into_the_same_output_are_refused(images, tiny_model, run_here, tmp_path):
    out = tmp_path / "out"
    assert run_here("--input", images, "--output", out, "--model", tiny_model).code == 0
    other = save_tiny_model(tmp_path / "other", seed=7)
    done = run_here("--input", images, "--output", out, "--model", other)
    assert done.code == 2
    assert "made with other settings: model_sha256 was" in done.err
    done = run_here("--input", images, "--output", out, "--model", other, "--overwrite")
    assert done.code == 0
    assert "50 rows" in done.out


def test_overwrite_with_a_mistake_deletes_nothing(images, tiny_model, run_here, tmp_path):
    out = tmp_path / "out"
    assert run_here("--input", images, "--output", out, "--model", tiny_model).code == 0
    done = run_here("--input", tmp_path / "typo", "--output", out, "--overwrite")
    assert done.code == 2
    assert len(pd.read_parquet(out)) == 50


def nobody_reads() -> int:
    """A pipe whose reader went away."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_closed_streams_and_readers_that_go_away_change_nothing(images, tiny_model, tmp_path):
    words = ["--input", images, "--model", tiny_model, "--output"]
    command = ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", sys.executable, "-m", "pipeline.run"]
    assert run([*command, *words, tmp_path / "closed"]).code == 0
    assert len(pd.read_parquet(tmp_path / "closed")) == 50

    (tmp_path / "text.png").write_text("no image")
    words = ["--max_error_rate", "0", "--verbose", *words, tmp_path / "gone"]
    writer = nobody_reads()
    done = run_command("--input", tmp_path / "text.png", *words, stdout=writer, stderr=writer)
    assert done.code == 1
    assert json.loads((tmp_path / "gone" / "_run.json").read_text())["counts"]["errors"] == 1
    os.close(writer)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_continues(number, code, tiny_model, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    write_random_images(images, 6000, suffix=".jpg")
    arguments = ("--input", images, "--output", out, "--model", tiny_model, "--rows_per_file", 100)
    arguments += ("--engine", "openvino")
    process = start([sys.executable, "-m", "pipeline.run", *arguments], stderr=subprocess.PIPE)
    wait_for_a_part(out, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == code
    assert error.splitlines()[-1].startswith("interrupted: what is committed stays")
    assert "Traceback" not in error
    committed = len(pd.read_parquet(out))
    assert 0 < committed < 6000
    done = run_command(*arguments)
    assert done.code == 0, done.err
    assert f"{committed:,} done before" in done.out
    table = pd.read_parquet(out)
    assert len(table) == 6000 and table["id"].is_unique
    assert not list(out.glob("_tmp-*")), "leftovers are cleared"


def wait_for_a_part(out, process) -> None:
    """Returns when the first part is committed."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not list(out.glob("part-*.parquet")):
        assert time.monotonic() < until
        assert not waits(process, 0.02), process.communicate()


def test_a_terminal_shows_a_bar(images, tiny_model, tmp_path):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 100, 0, 0))
    command = [sys.executable, "-m", "pipeline.run", "--input", images, "--model", tiny_model]
    command += ["--output", tmp_path / "out", "--rows_per_file", 10]
    process = start(command, stdout=subprocess.DEVNULL, stderr=follower)
    os.close(follower)
    shown = bytearray()
    while select.select([leader], [], [], PATIENCE_SECONDS)[0]:
        try:
            shown += os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
    os.close(leader)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert "50/50" in shown.decode() and "0 errors" in shown.decode()
