"""A model is fine-tuned from image files; what fails or is killed on the way loses nothing."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
import sys

import numpy as np
import pytest

from consumers.tuning.fine_tuning import Tuned, fine_tune
from consumers.tuning.images import LabelledImage
from consumers.tuning.options import TuningOptions
from tests.helpers import colours
from tests.helpers.commands import Finished, run
from transforms.errors import UserError
from transforms.images.spec import ImageSpec
from transforms.models.source import ModelSource
from transforms.models.trainable import load_trainable
from transforms.storage import faults

OPTIONS = TuningOptions(epochs=8, batch_size=8, learning_rate=0.5, warmup=0.05)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return colours.save_grey_extractor(tmp_path_factory.mktemp("grey") / "model")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return colours.write_colours(tmp_path_factory.mktemp("colours") / "images", 20)


def tune(
    grey: pathlib.Path,
    images: list[LabelledImage],
    checkpoints: pathlib.Path,
    lines: list[str] | None = None,
    options: TuningOptions = OPTIONS,
    head=None,
    summaries: pathlib.Path | None = None,
    spec: ImageSpec = colours.COLOUR_SPEC,
    model=None,
) -> Tuned:
    return fine_tune(
        model or load_trainable(ModelSource(str(grey))),
        head or colours.small_head(),
        images[::2],
        images[1::2],
        spec,
        options,
        str(checkpoints),
        str(summaries) if summaries else None,
        [].append if lines is None else lines.append,
    )


def test_what_the_frozen_vectors_do_not_say_is_learnt(grey, images, tmp_path):
    """Red and blue are the same grey: no head on the frozen vectors tells them apart."""
    from sklearn.linear_model import LogisticRegression

    labelled = colours.colours_in(images)
    model = load_trainable(ModelSource(str(grey)))
    before = [variable.numpy() for variable in model.variables]
    lines: list[str] = []
    tuned = tune(grey, labelled, tmp_path / "a", lines, summaries=tmp_path / "logs", model=model)

    frozen = load_trainable(ModelSource(str(grey)))
    vectors, targets = _vectors(frozen, labelled)
    fitted = LogisticRegression(C=1e3, max_iter=1000).fit(vectors[::2], targets[::2])
    assert fitted.score(vectors[1::2], targets[1::2]) < 0.8
    assert tuned.validation.accuracy() >= 0.95

    for variable, was in zip(model.variables, before, strict=True):  # the moving average, too
        assert (variable.numpy() != was).any()
    vectors, _ = _vectors(tuned.extractor, labelled)
    logits = tuned.head.logits(vectors)[1::2]
    np.testing.assert_allclose(logits, tuned.validation.logits, atol=1e-5)
    assert tuned.validation.rows.tolist() == list(range(20))
    assert lines[0].startswith("before training: validation loss")
    assert "epoch 1 of 8: loss" in lines[1]
    assert lines[1].endswith(" left")
    assert [name.startswith("events.out.tfevents") for name in os.listdir(tmp_path / "logs")]


def _vectors(model, labelled: list[LabelledImage]) -> tuple[np.ndarray, np.ndarray]:
    import PIL.Image

    pixels = [np.asarray(PIL.Image.open(image.ref.uri)) for image in labelled]
    images = np.array(pixels, np.float32) / np.float32(255)
    return model.call(images, False).numpy(), np.array([image.target for image in labelled])


def test_regularisation_losses_are_in_the_loss(grey, images, tmp_path):
    """With a learning rate of nothing the loss is what can be computed beforehand."""
    labelled = colours.colours_in(images)
    head = colours.small_head(l1=0.01, l2=0.02)
    options = TuningOptions(epochs=1, batch_size=40, learning_rate=1e-12)
    model = load_trainable(ModelSource(str(grey)))
    tuned = tune(grey, labelled, tmp_path, options=options, head=head, model=model)
    kernel = head.layers[0].kernel
    weights = np.tile(np.linspace(-1, 1, colours.GREY_FEATURES), (3, 1))
    expected = colours.PENALTY * (weights**2).sum()
    expected += 0.01 * np.abs(kernel).sum() + 0.02 * (kernel**2).sum()
    assert tuned.scores[1].regularization == pytest.approx(expected, rel=1e-5)
    vectors, targets = _vectors(load_trainable(ModelSource(str(grey))), labelled[::2])
    logits = head.logits(vectors).astype(np.float64)
    cross_entropy = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(targets)), targets]
    assert tuned.scores[1].loss == pytest.approx(expected + cross_entropy.mean(), rel=1e-5)


def test_images_of_several_classes_have_a_sigmoid_each(grey, images, tmp_path):
    several = [
        dataclasses.replace(image, target=(image.target == 0, image.target == 1, True))
        for image in colours.colours_in(images)
    ]
    tuned = fine_tune(
        load_trainable(ModelSource(str(grey))), None, several[::2], several[1::2],
        colours.COLOUR_SPEC, OPTIONS, str(tmp_path), None, [].append,
    )  # fmt: skip
    assert tuned.scores[0].validation_loss == pytest.approx(np.log(2))  # a head of zeros
    assert tuned.scores[-1].validation_loss < 0.6
    assert (tuned.validation.logits[:, 2] > 0).all()


def test_a_broken_image_is_named_and_costs_itself_alone(grey, tmp_path):
    directory = colours.write_colours(tmp_path / "images", 8)
    broken = directory / "red" / "000.png"
    broken.write_bytes(broken.read_bytes()[:60])
    lines: list[str] = []
    options = TuningOptions(epochs=2, batch_size=3)
    labelled = colours.colours_in(directory)
    tuned = tune(grey, labelled, tmp_path / "a", lines, options)
    assert list(tuned.skipped) == [str(broken)]
    assert [line for line in lines if "skipped" in line and str(broken) in line] == [
        f"{broken}: skipped: {tuned.skipped[str(broken)]}"
    ]
    assert tuned.scores[-1].epoch == 2


def test_training_ends_when_validation_gets_no_better(grey, images, tmp_path):
    """With wrong labels to validate on, the start is best; it is what one gets."""
    labelled = colours.colours_in(images)
    wrong = [
        dataclasses.replace(image, target=1 - image.target) if at % 2 else image
        for at, image in enumerate(labelled)
    ]
    options = dataclasses.replace(OPTIONS, epochs=50, patience=2)
    lines: list[str] = []
    tuned = tune(grey, wrong, tmp_path, lines, options)
    best = min(tuned.scores, key=lambda score: score.validation_loss)
    assert tuned.scores[-1].epoch == best.epoch + 2 < 50
    assert tuned.validation.loss() == pytest.approx(best.validation_loss, rel=1e-6)
    assert lines[-1].startswith(f"the best epoch is {best.epoch} of {best.epoch + 2}")


def test_killed_and_started_again_it_ends_with_the_same_weights(grey, images, tmp_path):
    """Killed in the middle of an epoch, while a checkpoint is written: the sixth of ten."""
    whole = (tmp_path / "whole", tmp_path / "whole.npz")
    twice = (tmp_path / "twice", tmp_path / "twice.npz")
    killed = _job(grey, images, *whole, *twice, **{faults.VARIABLE: "before_rename:16"})
    assert killed.code == -signal.SIGKILL, killed.err
    assert list(twice[0].glob("_tmp-*"))
    finished = _job(grey, images, *twice)
    assert finished.code == 0, finished.err
    assert finished.out.startswith("going on after step 6 of 15\n")
    uninterrupted, weights = (np.load(run[1]) for run in (whole, twice))
    assert len(weights.files) == len(uninterrupted.files) == 5
    for name in weights.files:
        np.testing.assert_allclose(weights[name], uninterrupted[name], rtol=0, atol=1e-6)
    assert len(list(twice[0].iterdir())) == 1


def _job(*paths: pathlib.Path, **environment: str) -> Finished:
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    return run(
        [sys.executable, "-m", "tests.helpers.colours", *paths],
        env=os.environ | threads | environment,
    )


def test_a_finished_training_is_not_done_again(grey, images, tmp_path):
    labelled = colours.colours_in(images)
    first = tune(grey, labelled, tmp_path)
    lines: list[str] = []
    again = tune(grey, labelled, tmp_path, lines)
    assert again.scores == first.scores
    np.testing.assert_array_equal(again.validation.logits, first.validation.logits)
    assert lines[0] == "going on after step 24 of 24"


def test_another_run_has_another_checkpoint(grey, images, tmp_path):
    labelled = colours.colours_in(images)
    tune(grey, labelled, tmp_path, options=TuningOptions(epochs=1))
    [name] = os.listdir(tmp_path)
    before = (tmp_path / name).read_bytes()
    lines: list[str] = []
    tune(grey, labelled[:-2], tmp_path, lines, options=TuningOptions(epochs=1))
    assert lines[0] == f"{name}: the checkpoint of another run, left as it is"
    assert (tmp_path / name).read_bytes() == before
    assert len(os.listdir(tmp_path)) == 2


def test_a_damaged_checkpoint_is_told(grey, images, tmp_path):
    labelled = colours.colours_in(images)
    options = TuningOptions(epochs=1)
    tune(grey, labelled, tmp_path, options=options)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"npz: the checkpoint is damaged: .*; delete it to begin"):
        tune(grey, labelled, tmp_path, options=options)


def test_a_loss_that_is_no_number_ends_it(grey, images, tmp_path):
    labelled = colours.colours_in(images)
    options = TuningOptions(epochs=3, batch_size=8, learning_rate=1e30, warmup=0.0)
    with pytest.raises(UserError) as told:
        tune(grey, labelled, tmp_path, options=options)
    assert str(told.value).startswith("learning_rate 1e+30: the loss is ")
    assert str(told.value).endswith("; give a lower one")
    assert "epoch" in str(told.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"spec": ImageSpec(16, 12)}, "image_size 16x12: .* takes images of 12×12 pixels"),
        ({"head": "wide"}, "gives vectors of 6 numbers, and the head is for 7"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    grey, images, tmp_path, change, told
):
    from consumers.tuning.network import untrained_head

    if "head" in change:
        change = {"head": untrained_head(7, 2)}
    with pytest.raises(UserError, match=told):
        tune(grey, colours.colours_in(images), tmp_path, **change)
    assert not list(tmp_path.iterdir())


def test_no_images_or_none_that_can_be_read(grey, tmp_path):
    directory = colours.write_colours(tmp_path / "images", 2)
    labelled = colours.colours_in(directory)
    with pytest.raises(UserError, match="validation: there are no images"):
        tune(grey, labelled[:1], tmp_path / "a")
    for image in labelled[1::2]:
        pathlib.Path(image.ref.uri).write_bytes(b"GIF89a")
    with pytest.raises(UserError, match="validation: none of the 2 images can be used"):
        tune(grey, labelled, tmp_path / "a")


def test_not_enough_memory_says_which_option_takes_less(grey, images, tmp_path, monkeypatch):
    """TensorFlow's own error, as a machine without enough memory gives it."""
    import tensorflow as tf

    from consumers.tuning import network

    def failing(*_arguments):
        def step(*_):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

        return step

    monkeypatch.setattr(network, "training_step", failing)
    with pytest.raises(UserError, match="batch_size 8: not enough memory for so many images of 12"):
        tune(grey, colours.colours_in(images), tmp_path)
