"""A run that fails says why in its last line, whatever of it Beam hands on."""

from __future__ import annotations

import errno
import os
import pathlib
import re
import resource
import shutil
import tempfile
from collections.abc import Callable

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

import runners
from pipeline.terminal import failures
from tests.helpers.commands import Finished
from tests.helpers.images import write_random_images
from tests.helpers.tiny_model import save_tiny_model
from transforms.dataset.writer import PartWriter
from transforms.errors import Parameter, UserError

Run = Callable[..., Finished]


def of_a_worker(error: Exception) -> BaseException:
    """What the launcher gets if a worker raises `error`."""

    def fail(_: object) -> None:
        raise error

    options = PipelineOptions([])
    with pytest.raises(Exception, match="") as info:  # noqa: SIM117
        with beam.Pipeline(runner=runners.create(options), options=options) as pipeline:
            pipeline | beam.Create([1]) | "Commit" >> beam.Map(fail)
    return info.value


def tensorflows_error() -> Exception:
    @tf.function(input_signature=[tf.TensorSpec([None])])
    def fails(x):
        return tf.ensure_shape(x, [2])

    try:
        fails(tf.zeros([3]))
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/out"), r"/out: Permission denied"),
        (OSError(errno.EFBIG, "File too large"), r"File too large: .*ulimit -f"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/out/_plan/x"), r"/out/_pl"),
        (
            OSError("Error writing. Detail: [errno 5] Input/output error"),
            r"OSError: Error writing. Detail",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), r"no space left where --output"),
        (UserError("the model takes 16x16", subject="a.png"), r"a\.png: the model takes 16x16 \("),
        (
            UserError(
                "add ", Parameter("trusted", True), ' or "not"', subject=Parameter("model", "a/b")
            ),
            r'--model a/b: add --trust_model or "not"',
        ),
        (ValueError("first\n  File second\n\nthird"), r"ValueError: first File second third \("),
        (KeyError(), r"KeyError \(in "),
        (tensorflows_error(), r"Shape of tensor x"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_cause_of_what_a_worker_raised(error: Exception, told: str) -> None:
    for failed in (of_a_worker(error), error):
        cause = failures.cause(failed)
        assert re.match(told.replace(r" \(in ", "").replace(r" \(", ""), cause.text), cause.text
        assert "Traceback" not in cause.text and "\n" not in cause.text
        assert len(cause.text) < 700
    assert re.match(told, failures.cause(of_a_worker(error)).text)


def test_what_another_runner_says_around_it_is_left_out() -> None:
    text = (
        "Pipeline job-7 failed in state FAILED: java.lang.RuntimeException: Error received from "
        "SDK harness for instruction 4: Traceback (most recent call last):\n"
        '  File "apache_beam/runners/common.py", line 1512, in DoFnRunner.process\n'
        '  File "transforms/commit.py", line 66, in process\n'
        "    part = self._writer.commit()\n"
        "           ^^^^^^^^^^^^^^^^^^^^^\n"
        "RuntimeError: PermissionError: [Errno 13] Permission denied: '/out' "
        "[while running 'Commit/Commit-ptransform-30']\n\n"
        "\tat java.base/java.util.concurrent.CompletableFuture.get(CompletableFuture.java:395)"
    )
    assert failures.cause(RuntimeError(text)).text.startswith("/out: Permission denied")


@pytest.fixture
def words(tmp_path: pathlib.Path) -> list[object]:
    """A command whose parts are of 50 kB each."""
    write_random_images(tmp_path / "in", 20)
    model = save_tiny_model(tmp_path / "wide", width=1280)
    words = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", model]
    return [*words, "--rows_per_file", 10]


def last_line(done: Finished) -> str:
    assert done.code == 1
    assert "Traceback" not in done.err
    lines = done.err.splitlines()
    assert len(lines) <= 5, done.err
    assert lines[-1].startswith("failed: ")
    assert lines[-1].endswith("what is committed stays; the same command continues")
    return lines[-1]


def test_a_limit_of_the_size_of_files(words: list[object], run_here: Run) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        done = run_here(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "ulimit -f" in last_line(done)
    assert run_here(*words).code == 0


def test_an_output_that_is_removed_meanwhile(
    words: list[object], run_here: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(writer: PartWriter) -> None:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return committed(writer)

    committed = PartWriter.commit
    monkeypatch.setattr(PartWriter, "commit", commit)
    last = last_line(run_here(*words))
    assert "No such file or directory" in last or "removed while" in last, last


def test_what_nobody_knows_is_kept_in_a_file_that_is_named(
    words: list[object], run_here: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(writer: PartWriter) -> None:
        raise ZeroDivisionError("who would have thought")

    monkeypatch.setattr(PartWriter, "commit", commit)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = run_here(*words)
    assert "failed: ZeroDivisionError: who would have thought (in Commit" in last_line(done)
    kept = re.search(r"^the traceback is in (.+)$", done.err, re.MULTILINE)
    assert kept is not None
    text = pathlib.Path(kept[1]).read_text()
    assert text.startswith("Traceback") and "who would have thought" in text
    assert os.path.dirname(kept[1]) == str(tmp_path)


def test_verbose_shows_the_traceback(
    words: list[object], run_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(writer: PartWriter) -> None:
        raise ZeroDivisionError("who would have thought")

    monkeypatch.setattr(PartWriter, "commit", commit)
    done = run_here(*words, "--verbose")
    assert done.code == 1
    assert "Traceback (most recent call last)" in done.err
    assert done.err.splitlines()[-1].startswith("failed: ZeroDivisionError: who would")
