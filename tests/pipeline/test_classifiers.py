"""A classifier of the trainer through run and inspect: it knows what it is, without flags."""

from __future__ import annotations

import json
import shutil

import numpy as np
import PIL.Image
import pytest

from pipeline import inspect, settings
from pipeline.options.door import read_options
from pipeline.terminal.errors import told
from tests.helpers.classifiers import LABELS, SmallClassifier, noise, save_small_classifier
from transforms.errors import UserError
from transforms.snapshot import load_features

CLASSIFY = ("--task", "classification")
COUNT = 4


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> SmallClassifier:
    """One whose images may have any size; it was trained at 24×20."""
    return save_small_classifier(tmp_path_factory.mktemp("exported"), size=(24, 20))


def resolved(model: str, *flags: str) -> settings.Settings:
    options = read_options(["--input", "i", "--output", "o", "--model", model, *flags])
    source = settings.open_model(options.model, options.engine)
    return settings.resolve(options, source, [])


def mistake(model: str, *flags: str) -> str:
    with pytest.raises(UserError) as info:
        resolved(model, *flags)
    return told(info.value)


def test_run_knows_labels_activation_and_image_size(classifier):
    found = resolved(classifier.path, *CLASSIFY)
    assert (found.image.height, found.image.width) == (24, 20)
    assert found.part_format.class_names == LABELS
    assert (found.part_format.activation, found.part_format.top_k) == ("softmax", len(LABELS))


def test_flags_have_the_last_word(classifier, tmp_path):
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    flags = ("--labels", str(tmp_path / "names.txt"), "--activation", "none", "--top_k", "2")
    found = resolved(classifier.path, *CLASSIFY, *flags, "--image_size", "30x31")
    assert (found.image.height, found.image.width) == (30, 31)
    assert found.part_format.class_names == ("x", "y", "z")
    assert (found.part_format.activation, found.part_format.top_k) == ("none", 2)
    (tmp_path / "names.txt").write_text("x\ny\n")
    assert "2 names, but the model gives 3 logits" in mistake(classifier.path, *CLASSIFY, *flags)


def test_what_the_model_says_is_in_the_fingerprint_as_what_a_flag_says(classifier, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(LABELS) + "\n", "utf-8")
    flags = ("--labels", str(tmp_path / "names.txt"), "--activation", "softmax")
    by_itself = dict(resolved(classifier.path, *CLASSIFY).part_format.fingerprint)
    given = ("--image_size", "24x20", *flags)
    assert by_itself == dict(resolved(classifier.path, *CLASSIFY, *given).part_format.fingerprint)
    other = shutil.copytree(classifier.path, tmp_path / "other")
    facts = json.loads((other / "assets" / "image_classifier.json").read_text("utf-8"))
    facts |= {"labels": ["x", "y", "z"], "activation": "sigmoid", "multi_label": True}
    (other / "assets" / "image_classifier.json").write_text(json.dumps(facts))
    changed = dict(resolved(str(other), *CLASSIFY).part_format.fingerprint)
    differing = {name for name in by_itself if by_itself[name] != changed[name]}
    assert differing == {"labels_sha256", "activation", "model_sha256"}


def test_asked_for_feature_vectors_a_classifier_says_what_it_gives(classifier):
    expected = "gives logits, as it says of itself; give --task classification"
    assert mistake(classifier.path) == f"--model {classifier.path}: {expected}"


def test_more_names_than_logits_are_refused(classifier, tmp_path):
    other = shutil.copytree(classifier.path, tmp_path / "other")
    path = other / "assets" / "image_classifier.json"
    facts = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(facts | {"labels": ["x", "y"]}))
    assert "names 2 classes" in mistake(str(other), *CLASSIFY)
    path.write_text("{")
    assert "assets/image_classifier.json" in mistake(str(other), *CLASSIFY)


def test_run_gives_the_predictions_of_the_model(classifier, tmp_path, run_here):
    images = (noise(COUNT, (24, 20)) * 255).round().astype(np.uint8)
    (tmp_path / "in").mkdir()
    for at, image in enumerate(images):
        PIL.Image.fromarray(image).save(tmp_path / "in" / f"{at}.png")
    done = run_here(
        *("--input", tmp_path / "in", "--output", tmp_path / "out", "--runner", "DirectRunner"),
        *("--model", classifier.path, *CLASSIFY),
    )
    assert done.code == 0, done.err
    rows = load_features(str(tmp_path / "out")).sort_by("id").to_pydict()
    logits = classifier.expected(images.astype(np.float32) / 255)
    np.testing.assert_allclose(np.array(rows["logits"]), logits, rtol=1e-4, atol=1e-4)
    best = [LABELS[at] for at in logits.argmax(1)]
    assert [row[0]["label"] for row in rows["top_k"]] == best
    assert all(sum(one["score"] for one in row) == pytest.approx(1) for row in rows["top_k"])


def test_inspect_passes_it_and_needs_no_flags(classifier, capfd):
    assert inspect.main([classifier.path, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    status = {check["name"]: check["status"] for check in found["checks"]}
    assert set(status.values()) <= {"pass", "info"}, found["checks"]
    assert status["training accepted"] == status["variables listed"] == "pass"
    what = found["description"]
    assert what["takes_training"] and what["hyper_parameters"] == ["dropout_rate"]
    assert (what["variables"], what["trainable_variables"]) == (6, 5)
    assert what["regularization_losses"] == 3 and what["fine_tunable"]
    assert what["own"]["labels"] == list(LABELS)
    assert found["command"].endswith(f"--model {classifier.path} --task classification")
    assert inspect.main([classifier.path]) == 0
    table = capfd.readouterr().out
    assert "classes        3, one an image (softmax): daisy, rosé, a tulip" in table
    assert "image size     24x20" in table and "--labels" not in table


def test_inspect_tells_of_a_damaged_description(classifier, tmp_path, capfd):
    other = shutil.copytree(classifier.path, tmp_path / "other")
    (other / "assets" / "image_classifier.json").write_text("[]")
    assert inspect.main([str(other)]) == 2
    told_lines = capfd.readouterr().err.splitlines()
    assert len(told_lines) == 1 and "it is no object" in told_lines[0]
