"""A signed URL lets anybody in who reads it: it is told to nobody."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import pytest

from pipeline import inspect
from pipeline.options.door import read_options
from tests.helpers.commands import Finished
from tests.helpers.images import write_random_images
from tests.helpers.web import web_server

SECRETS = ("s3cr3t-signature", "s3cr3t-token", "s3cr3t-password", "s3cr3t-key", "s3cr3t-variable")


@pytest.fixture
def signed(
    tiny_model: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    monkeypatch.setenv("BEAM_IMAGE_FEATURES_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hub").mkdir()
    shutil.make_archive(str(tmp_path / "hub" / "model"), "gztar", tiny_model)
    with web_server(tmp_path / "hub") as url:
        query = "X-Amz-Date=2026&X-Amz-Signature=s3cr3t-signature&token=s3cr3t-token"
        yield f"{url}/model.tar.gz?{query}".replace("http://", "http://me:s3cr3t-password@")


def written(directory: pathlib.Path) -> bytes:
    paths = [path for path in directory.rglob("*") if path.is_file()]
    assert paths
    return b"".join(path.name.encode() + path.read_bytes() for path in paths)


def check_untold(content: str | bytes) -> None:
    text = content if isinstance(content, str) else content.decode(errors="replace")
    assert not [secret for secret in SECRETS if secret in text]


def test_a_run_tells_it_neither_in_its_record_nor_in_its_lines(
    signed: str, run_here: Callable[..., Finished], tmp_path: pathlib.Path
) -> None:
    write_random_images(tmp_path / "images", 3)
    command = ("--input", tmp_path / "images", "--output", tmp_path / "out", "--model", signed)
    beam = ("--s3_secret_access_key=s3cr3t-key", "--environment_options", "KEY=s3cr3t-variable")
    done = run_here(*command, *beam)
    assert done.code == 0, done.err
    check_untold(done.out + done.err)
    check_untold(written(tmp_path / "out"))
    check_untold(written(tmp_path / "cache"))
    run = json.loads((tmp_path / "out" / "_run.json").read_text())
    assert "http://***@127.0.0.1" in run["command"]
    assert "X-Amz-Date=2026&X-Amz-Signature=***&token=***" in run["command"]
    assert "--environment_options '***'" in run["command"]

    shutil.rmtree(tmp_path / "cache")
    os.remove(tmp_path / "hub" / "model.tar.gz")
    failed = run_here(*command, "--overwrite")
    assert failed.code == 2
    assert "404" in failed.err
    check_untold(failed.out + failed.err)


def test_the_options_that_travel_with_a_job_tell_it_neither(signed: str) -> None:
    options = read_options(["--input", "in", "--output", "out", "--model", signed])
    assert options.model.handle == signed
    check_untold(json.dumps(options.beam.get_all_options(), default=str))


def test_inspect_tells_it_neither(
    signed: str, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    for flags in ([], ["--json"]):
        inspect.main([signed, *flags])
        told = capsys.readouterr()
        check_untold(told.out + told.err)
        assert "X-Amz-Signature=***" in told.out
