"""`pipeline.train`: from folders of images, or vectors and labels, to a model that run knows."""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest

from consumers import load_features
from consumers.labelled import Labelled
from consumers.labels import labels_of_folders
from consumers.training.duplicates import joined_groups, near_duplicate_groups
from consumers.training.split import split_images
from examples.digits import write_digits
from pipeline import inspect, run, train
from tests.helpers.colours import save_grey_extractor, write_colours
from tests.helpers.soak import usual_or_soak
from tests.helpers.tiny_model import save_tiny_model

DIGITS = usual_or_soak(300, None)
SIZE = usual_or_soak("64x64", "96x96")
FOLDS = usual_or_soak("2", "5")
# What is reached with so many digits.
ACCURACY = usual_or_soak(0.7, 0.95)
FILES = {
    "saved_model.pb",
    "labels.txt",
    "metrics.json",
    "model_card.md",
    "confusion_matrix.png",
    "reliability.png",
    "label_suspects.csv",
    "held_out.csv",
}


@dataclasses.dataclass(frozen=True)
class Job:
    """A training that was done.

    Attributes:
      images: the folders.
      features: the vectors that were kept.
      model: what came out.
    """

    images: pathlib.Path
    features: pathlib.Path
    model: pathlib.Path

    def words(self, **changed: object) -> list[str]:
        """The command line, with some values changed or left out by None."""
        values = {
            "image_dir": self.images,
            "features_dir": self.features,
            "saved_model_dir": self.model,
            "image_size": SIZE,
            "folds": FOLDS,
        } | changed
        given = {name: value for name, value in values.items() if value is not None}
        return [word for name, value in given.items() for word in (f"--{name}", str(value))]

    def metrics(self) -> dict:
        return json.loads((self.model / "metrics.json").read_text())


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The digits, learnt with the built-in model in one command."""
    at = tmp_path_factory.mktemp("digits")
    job = Job(at / "digits", at / "features", at / "model")
    write_digits(job.images, DIGITS)
    (job.images / "3" / "broken.png").write_text("no image")
    assert train.main(job.words(assert_accuracy_at_least=ACCURACY)) == 0
    return job


def held_out(job: Job) -> tuple[list[str], np.ndarray]:
    """The ids of the images that were held out, and the positions of their classes."""
    features = load_features(str(job.features))
    uris = features.select(["uri"]).to_arrow()["uri"].to_pylist()
    labels = labels_of_folders(uris, str(job.images))
    vectors = features.to_numpy()
    groups = joined_groups(near_duplicate_groups(vectors), None)
    labelled = Labelled(features.ids, vectors, labels.targets, labels.classes, groups)
    sides = split_images(labelled, 0.2, 0)
    return labelled.ids[sides.held_out].tolist(), labels.targets[sides.held_out]


def test_a_model_comes_out_with_all_that_is_told_of_it(digits: Job):
    assert {path.name for path in digits.model.iterdir()} >= FILES
    metrics = digits.metrics()
    assert metrics["accuracy"] >= ACCURACY
    assert (digits.model / "labels.txt").read_text().split() == list("0123456789")
    with open(digits.model / "label_suspects.csv") as file:
        suspects = list(csv.DictReader(file))
    assert all(row["label"] != row["suggested"] for row in suspects)
    with open(digits.model / "held_out.csv") as file:
        answers = list(csv.DictReader(file))
    assert sum(row["right"] == "1" for row in answers) == metrics["correct"]
    assert all(pathlib.Path(row["id"]).parent.name == row["label"] for row in answers)
    assert "0.1.0" in (digits.model / "model_card.md").read_text()


def test_run_gives_the_same_predictions_without_being_told_anything(digits: Job, tmp_path):
    out = tmp_path / "logits"
    words = ["--input", str(digits.images), "--output", str(out), "--model", str(digits.model)]
    assert run.main([*words, "--task", "classification"]) == 0
    table = pd.read_parquet(out).set_index("id")
    best = {name: top[0]["label"] for name, top in table["top_k"].items()}
    ids, classes = held_out(digits)
    right = sum(best[name] == str(of) for name, of in zip(ids, classes, strict=True))
    assert right / len(ids) == pytest.approx(digits.metrics()["accuracy"], abs=1e-12)
    scores = table["top_k"].iloc[0]
    assert 0.5 < sum(one["score"] for one in scores) <= 1.0001  # softmax, from the model


def test_inspect_finds_nothing_wrong_with_it(digits: Job, capfd):
    assert inspect.main([str(digits.model)]) == 0
    out = capfd.readouterr().out
    assert "takes `training`" in out
    assert "10, one an image (softmax)" in out


def test_the_vectors_are_kept_and_no_image_is_read_twice(digits: Job, tmp_path, capfd):
    words = digits.words(saved_model_dir=tmp_path / "again", labels_output_file=tmp_path / "l.txt")
    assert train.main(words) == 0
    err = capfd.readouterr().err
    assert "+0 new, 0 changed, 0 gone" in err
    again = dataclasses.replace(digits, model=tmp_path / "again")
    assert again.metrics()["accuracy"] == digits.metrics()["accuracy"]
    assert (tmp_path / "l.txt").read_bytes() == (digits.model / "labels.txt").read_bytes()


def test_vectors_that_are_there_are_learnt_from_by_their_labels(digits: Job, tmp_path):
    output = tmp_path / "model"
    words = [str(digits.features), "--output", str(output), "--head", "mlp", "--folds", "2"]
    assert train.main([*words, "--train_epochs", "10"]) == 0
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["head"]["kind"] == "mlp"
    assert metrics["accuracy"] > ACCURACY - 0.2


def test_images_of_several_classes_are_learnt_from_a_csv(digits: Job, tmp_path):
    ids = load_features(str(digits.features)).ids
    with open(tmp_path / "labels.csv", "w") as file:
        file.write("id,label\n")
        for name in ids:
            digit = int(pathlib.Path(name).parent.name)
            file.write(f"{name},{'even' if digit % 2 == 0 else 'odd'}\n")
            file.write(f"{name},small\n" if digit < 5 else "")
    words = [str(digits.features), "--output", str(tmp_path / "model")]
    words += ["--labels_csv", str(tmp_path / "labels.csv"), "--multi_label", "--folds", "2"]
    assert train.main(words) == 0
    assert (tmp_path / "model" / "labels.txt").read_text().split() == ["even", "odd", "small"]
    described = json.loads((tmp_path / "model" / "assets" / "image_classifier.json").read_text())
    assert described["activation"] == "sigmoid"


def test_a_model_that_is_not_good_enough_is_not_written(digits: Job, tmp_path, capfd):
    words = digits.words(saved_model_dir=tmp_path / "model", assert_accuracy_at_least=1)
    assert train.main(words) == 1
    assert "--assert_accuracy_at_least 1.0: the accuracy is 0." in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_there_is_replaced_only_if_asked(digits: Job, capfd):
    before = digits.metrics()
    assert train.main(digits.words()) == 2
    assert "--overwrite" in capfd.readouterr().err
    assert train.main([*digits.words(), "--overwrite"]) == 0
    assert digits.metrics()["accuracy"] == before["accuracy"]


def test_a_model_is_fine_tuned_and_a_second_one_gives_its_vectors(tmp_path, capfd):
    """Red or blue, by an extractor that sees grey until it is trained."""
    images = write_colours(tmp_path / "images", 40)
    grey = save_grey_extractor(tmp_path / "grey")
    words = ["--image_dir", str(images), "--tfhub_module", str(grey)]
    words += ["--features_dir", str(tmp_path / "vectors"), "--folds", "2", "--accept_model"]
    assert train.main([*words, "--saved_model_dir", str(tmp_path / "frozen")]) == 0
    frozen = json.loads((tmp_path / "frozen" / "metrics.json").read_text())
    words += ["--do_fine_tuning", "--learning_rate", "0.5", "--train_epochs", "12"]
    words += ["--batch_size", "8", "--summaries_dir", str(tmp_path / "logs")]
    assert train.main([*words, "--saved_model_dir", str(tmp_path / "tuned")]) == 0
    tuned = json.loads((tmp_path / "tuned" / "metrics.json").read_text())
    assert tuned["accuracy"] > max(0.9, frozen["accuracy"])
    assert [score["epoch"] for score in tuned["epochs"]][:3] == [0, 1, 2]
    assert list((tmp_path / "logs").glob("events.out.tfevents.*"))
    assert "validation loss" in capfd.readouterr().err
    run_words = ["--input", str(images), "--model", str(tmp_path / "tuned" / "feature_vector")]
    assert run.main([*run_words, "--output", str(tmp_path / "tuned_vectors")]) == 0
    before = load_features(str(tmp_path / "vectors")).to_numpy()
    after = load_features(str(tmp_path / "tuned_vectors")).to_numpy()
    assert before.shape == after.shape
    assert np.abs(before - after).max() > 0.01


# As the README of make_image_classifier has its options, and absl its switches.
OLD_SCRIPT = """
--tfhub_module {grey} --image_dir {images} --image_size 12 --saved_model_dir {at}/new_model
--labels_output_file {at}/class_labels.txt --tflite_output_file {at}/new_mobile_model.tflite
--summaries_dir {at}/my_log_dir --assert_accuracy_at_least=0.1 --train_epochs 2
--do_fine_tuning --batch_size 8 --learning_rate 0.005 --momentum 0.9 --dropout_rate 0.2
--l1_regularizer 0 --l2_regularizer 0.0001 --label_smoothing 0.1 --validation_split 0.2
--do_data_augmentation=True --nouse_tf_data_input --rotation_range 40 --horizontal_flip
--width_shift_range 0.2 --height_shift_range 0.2 --shear_range 0.2 --zoom_range 0.2
"""


def test_a_script_for_make_image_classifier_runs(tmp_path, capfd):
    places = {"grey": save_grey_extractor(tmp_path / "grey"), "at": tmp_path}
    places["images"] = write_colours(tmp_path / "images", 20)
    assert train.main([*OLD_SCRIPT.format(**places).split(), "--accept_model"]) == 0
    assert (tmp_path / "class_labels.txt").read_text() == "blue\nred\n"
    assert (tmp_path / "new_mobile_model.tflite").read_bytes()[4:8] == b"TFL3"
    assert (tmp_path / "new_model" / "saved_model.pb").exists()
    told = [line for line in capfd.readouterr().err.splitlines() if "has no effect" in line]
    assert told == ["--use_tf_data_input has no effect any more: images are read in one way"]


TUNED = ["--do_fine_tuning"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give the directory of a run, or --image_dir"),
        (["FEATURES"], "--output is missing"),
        (["FEATURES", "--output", "m", "--engine", "auto"], "--engine: is an option of run"),
        (["FEATURES", "--output", "m", "--do_fine_tuning"], "--do_fine_tuning needs the images"),
        (["FEATURES", "--output", "m", "--label_column", "nothing"], "--label_column nothing: "),
        (["FEATURES", "--output", "m", "--labels_csv", "none.csv"], "none.csv: cannot be read"),
        (["FEATURES", "--output", "m", "--model", "TINY"], "is another model than the one"),
        (["FEATURES", "--output", "m", "--pool", "mean"], "--pool: the vectors in "),
        (["FEATURES", "--output", "m", "--group_column", "pixels"], "pixels"),
        (["FEATURES", "--output", "m", "--split", "1"], "--validation_split 1: is not above 0"),
        (["FEATURES", "--output", "m", "--label_colum", "x"], "did you mean --label_column?"),
        (["nowhere", "--output", "m"], "nowhere: no run has finished here"),
        (["--image_dir", "ONE", "--output", "m"], "there are images in 1 folder: 0"),
        (["--image_dir", "nowhere", "--output", "m"], "nowhere: matches no file"),
        (["--image_dir", "ODD", "--output", "m"], "the class 'new\\nline' has a name that"),
        (["--image_dir", "FEW", "--output", "m"], "class '2' has 1 of the 3 images"),
        (
            ["--image_dir", "IMAGES", "--output", "m", "--input", "x"],
            "--input: is settled by train",
        ),
        (
            ["--image_dir", "IMAGES", "--output", "m", "--checkpoints", "m/c"],
            "lies in the directory",
        ),
        (
            ["--image_dir", "IMAGES", "--output", "m", "--do_fine_tuning", "--dropout_rate", "1"],
            "1",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    digits: Job, tmp_path, capfd, monkeypatch, words: list[str], told: str
):
    monkeypatch.chdir(tmp_path)
    one = tmp_path / "one"
    write_digits(one, 1)
    few, odd = tmp_path / "few", tmp_path / "odd"
    write_digits(few, 12)
    shutil.copytree(few / "1", few / "1" / "more")
    shutil.copytree(digits.images / "0", odd / "0")
    shutil.copytree(digits.images / "1", odd / "new\nline")
    (few / "0" / "a.png").write_bytes((few / "1" / "0001.png").read_bytes())
    given = {"FEATURES": digits.features, "TINY": save_tiny_model(tmp_path / "tiny"), "ONE": one}
    given |= {"ODD": odd, "FEW": few, "IMAGES": digits.images}
    assert train.main([str(given.get(word, word)) for word in words]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert told in lines[-1]
    assert not (tmp_path / "m").exists()
