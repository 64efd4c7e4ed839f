"""`verify` takes no model, trust, names or flags from what lies in the output directory."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import pytest
import tensorflow as tf

from pipeline import verify
from pipeline.checks.recorded import recorded_options
from tests.helpers.commands import Finished
from tests.helpers.images import write_random_images
from tests.helpers.tiny_model import save_tiny_model
from transforms.images.spec import DEFAULT_MAX_PIXELS
from transforms.machine import entries


@pytest.fixture
def check(capfd) -> Callable[..., Finished]:
    def call(*arguments: object) -> Finished:
        capfd.readouterr()
        code = verify.main([str(argument) for argument in arguments])
        return Finished(code, *capfd.readouterr())

    return call


@pytest.fixture
def output(tmp_path: pathlib.Path, tiny_model, run_here) -> pathlib.Path:
    """Five rows of the small model."""
    write_random_images(tmp_path / "in", 5)
    flags = ["--model", tiny_model, "--output", tmp_path / "out"]
    assert run_here("--input", tmp_path / "in", *flags).code == 0
    return tmp_path / "out"


@pytest.fixture
def evil(tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A model that writes a file when it is called, and the file."""
    path = tmp_path / "owned"

    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32)])
        def __call__(self, images):
            with tf.control_dependencies([tf.io.write_file(str(path), "owned")]):
                return tf.reduce_mean(images, [1, 2]) @ tf.ones([3, 8])

    tf.saved_model.save(Evil(), str(tmp_path / "evil"))
    return tmp_path / "evil", path


def plant(output: pathlib.Path, *words: object, name: str = "_run.json", **values: object) -> None:
    """Writes options into the record of a run."""
    record = json.loads((output / "_run.json").read_text())
    arguments = [*record["arguments"], *map(str, words)]
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).write_text(json.dumps(record | {"arguments": arguments} | values))


@pytest.mark.parametrize("name", ["_run.json", "_plan/0123456789ab.json"])
@pytest.mark.parametrize("has_digest", [False, True])
def test_a_model_and_its_trust_in_a_record_are_not_run(
    output, check, evil, name: str, has_digest: bool
) -> None:
    model, owned = evil
    digest = {"model_sha256": entries.tree_sha256(str(model))} if has_digest else {}
    plant(output, "--model", model, "--trust_model", name=name, run_id="0123456789ab", **digest)
    done = check(output)
    assert done.code in (1, 2)
    assert not owned.exists()
    assert f"--model {model}" in done.out + done.err
    if has_digest:  # it is looked at, as any model is, and its trust is asked for
        assert "--trust_model" in done.err
        assert len(done.err.splitlines()) == 1


def test_trust_is_given_on_the_command_line(output, check, evil) -> None:
    model, owned = evil
    assert "other settings now" in check(output, "--model", model, "--trust_model").out
    assert owned.exists()


def test_a_model_that_is_another_one_now_is_not_loaded(output, check, tmp_path) -> None:
    model = save_tiny_model(tmp_path / "other", seed=2)
    plant(output, "--model", model)
    done = check(output)
    assert done.code == 1
    assert f"its SHA-256 is {entries.tree_sha256(str(model))}, but --model_sha256" in done.out
    assert f"give --model {model}" in done.out
    assert "computed again" not in done.out


@pytest.mark.parametrize("handle", ["http://127.0.0.1:9/m.tar.gz", "gs://b/m", "a/b/tf2/c", "/no"])
def test_a_model_elsewhere_is_not_asked_for(output, check, handle: str) -> None:
    plant(output, "--model", handle)
    done = check(output)
    assert done.code == 1
    assert f"give --model {handle}" in done.out


def test_a_digest_on_the_command_line_is_enough(output, check, tiny_model) -> None:
    record = json.loads((output / "_run.json").read_text())
    del record["model_sha256"]  # as of an earlier program
    (output / "_run.json").write_text(json.dumps(record))
    assert f"give --model {tiny_model}" in check(output).out
    digest = entries.tree_sha256(str(tiny_model))
    assert check(output, "--model_sha256", digest).code == 0
    assert check(output, "--model", tiny_model).code == 0


def words(*arguments: str, given: tuple[str, ...] = ()) -> list[str]:
    return recorded_options({"arguments": list(arguments)}, given).words


def test_what_decides_numbers_is_taken_and_nothing_else() -> None:
    taken = words(
        *("--input", "/a", "/b", "--output", "/c", "--overwrite", "--image_size", "32x16"),
        *("--value_range", "-1,1", "--runner", "Flink", "--s3_endpoint_url", "http://evil"),
        *("--direct_num_workers=8", "--trust_model", "--label_from_parent", "--verbose"),
        *("--setup_file", "/evil/setup.py", "--extra_package=/evil.tar.gz", "--accept_model"),
    )
    common = {"--engine=tensorflow", "--task=feature_vector", "--decode=exact"}
    assert common < set(taken)
    assert {"--image_size=32x16", "--value_range=-1,1", "--label_from_parent"} < set(taken)
    names = {word.partition("=")[0] for word in taken}
    assert not names & {
        "--trust_model",
        "--runner",
        "--input",
        "--output",
        "--overwrite",
        "--model",
    }
    assert not any("evil" in word for word in taken)


def test_names_of_classes_are_given_on_the_command_line() -> None:
    arguments = ["--task", "classification", "--labels", "/etc/passwd"]
    recorded = recorded_options({"arguments": arguments}, [])
    assert not any("passwd" in word for word in recorded.words)
    assert recorded.unknown == {"labels_sha256", "top_k"}
    assert recorded.notes == ["class names were not compared: give --labels FILE"]
    assert not recorded_options({"arguments": arguments}, ["--labels", "mine"]).notes


def test_limits_are_not_lifted_by_a_record() -> None:
    large = ["--max_pixels", str(DEFAULT_MAX_PIXELS + 1), "--batch_size", "1000000000"]
    recorded = recorded_options({"arguments": large}, [])
    assert not any(word.startswith(("--max_pixels", "--batch_size")) for word in recorded.words)
    assert "--max_pixels" in recorded.notes[0]
    assert "--max_pixels=9" in words("--max_pixels", "9")
    [problem] = recorded_options({"arguments": ["--image_size", "99999"]}, []).problems
    assert "give it to use it" in str(problem)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["-h"],
        ["-hx"],
        ["--version"],
        ["--image_size", "x"],
        ["--engine", "mine"],
        ["\udcff"],
    ],
)
def test_options_that_cannot_be_are_told_in_one_line(arguments: list[str], capsys) -> None:
    recorded = recorded_options({"arguments": arguments}, [])
    assert recorded.words == []
    [problem] = recorded.problems
    assert "cannot be read back" in str(problem)
    assert capsys.readouterr() == ("", "")
