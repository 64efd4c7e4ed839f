"""What a new user meets in the first hour: a folder of all sorts, and what is said of it."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import PIL.Image
import pytest

from tests.helpers.commands import Finished, run_command
from tests.helpers.images import write_random_images


@pytest.fixture(scope="module")
def all_sorts(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Good photos, a damaged JPEG, a text with an image's name, images that nobody decodes here."""
    directory = tmp_path_factory.mktemp("sorts")
    write_random_images(directory, 12)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(directory / "whole.jpg", quality=95)
    data = (directory / "whole.jpg").read_bytes()
    (directory / "cut.jpg").write_bytes(data[: len(data) // 2])
    (directory / "text.png").write_text("This is not an image")
    PIL.Image.fromarray(pixels).save(directory / "scan.tiff")
    (directory / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (directory / "notes.txt").write_text("x")
    return directory


@pytest.fixture(scope="module")
def finished(
    all_sorts: pathlib.Path, tiny_model: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Finished, pathlib.Path]:
    out = tmp_path_factory.mktemp("sorts-out") / "out"
    done = run_command("--input", all_sorts, "--output", out, "--model", tiny_model)
    return done, out


def test_no_library_speaks_past_us(finished: tuple[Finished, pathlib.Path]) -> None:
    done, _ = finished
    assert done.code == 0, done.err
    said = done.err.splitlines()
    assert [line.split()[0] for line in said] == ["listing", "15", "15"], done.err


def test_images_that_cannot_be_decoded_are_named_apart_from_other_files(
    finished: tuple[Finished, pathlib.Path],
) -> None:
    said = finished[0].err
    assert "cannot decode 2 images (" in said and "1 .tiff" in said and "1 .heic" in said
    assert "convert them to JPEG or PNG" in said
    assert "passed over 1 other file (1 .txt)" in said


def test_each_type_of_error_has_one_example(
    finished: tuple[Finished, pathlib.Path], all_sorts: pathlib.Path
) -> None:
    done, out = finished
    assert f"NotAnImageError, such as {all_sorts / 'text.png'}: not an image" in done.out
    assert f"CorruptImageError, such as {all_sorts / 'cut.jpg'}: truncated" in done.out
    report = json.loads((out / "_run.json").read_text())
    assert set(report["error_examples"]) == {"NotAnImageError", "CorruptImageError"}
    assert report["versions"]["beam-image-features"]


def test_the_summary_speaks_plainly(finished: tuple[Finished, pathlib.Path]) -> None:
    lines = {line.split()[0]: line for line in finished[0].out.splitlines()}
    assert "15 images in " in lines["rate"] and "to list, load and plan" in lines["rate"]
    shares = [int(word[:-1]) for word in lines["time"].split() if word.endswith("%")]
    assert len(shares) == 3 and 98 <= sum(shares) <= 102


def test_verify_tells_that_the_last_run_failed_its_limit(
    all_sorts: pathlib.Path, tiny_model: pathlib.Path, tmp_path: pathlib.Path, capfd
) -> None:
    from pipeline import run, verify

    broken = tmp_path / "in"
    broken.mkdir()
    for name in ("text.png", "whole.jpg"):
        shutil.copy(all_sorts / name, broken)
    out = str(tmp_path / "out")
    words = ["--input", str(broken), "--output", out, "--model", str(tiny_model)]
    assert run.main([*words, "--max_error_rate", "0.1"]) == 1
    capfd.readouterr()
    assert verify.main([out, "--sample", "0"]) == 0
    told = capfd.readouterr().out
    assert "note     the last run failed, with more errors than --max_error_rate 0.1" in told
    assert told.endswith("what is here is whole\n")


def test_a_wrong_image_size_in_own_pipelines_is_one_line(tiny_model: pathlib.Path) -> None:
    from transforms import SavedModelHandler

    handler = SavedModelHandler(str(tiny_model))
    with pytest.raises(ValueError, match=r"^images are 24x24; the model takes 16x16 only"):
        handler.run_inference([np.zeros((24, 24, 3), np.float32)], handler.load_model())
