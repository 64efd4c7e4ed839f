"""Heads are as good as scikit-learn's, and what cannot be trained on is refused in one line."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from consumers.labelled import Labelled
from consumers.report.calibration import temperature
from consumers.report.probabilities import logits_of, probabilities_of
from consumers.training import fit, logistic, streaming
from consumers.training.checks import refuse_untrainable
from consumers.training.fit import HeadOptions, fit_head
from consumers.training.split import split_images
from tests.consumers.training.clusters import clusters, labelled
from transforms.errors import UserError


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def digits() -> tuple[Labelled, Labelled]:
    """Scikit-learn's digits as raw pixels; the second is the held-out fifth."""
    vectors, targets = load_digits(return_X_y=True)
    all_of_them = labelled(vectors.astype(np.float32), targets.astype(np.int64))
    sides = split_images(all_of_them, 0.2, seed=0)
    return all_of_them.take(sides.train), all_of_them.take(sides.held_out)


def accuracy(fitted: fit.FittedHead, images: Labelled) -> float:
    return float((fitted.head.logits(images.vectors).argmax(axis=1) == images.targets).mean())


def test_the_strength_is_chosen_by_images_that_were_not_learnt_from(digits):
    training, held_out = digits
    told: list[str] = []
    fitted = fit_head(training, HeadOptions(), told.append)
    assert accuracy(fitted, held_out) >= 0.95  # scikit-learn's with its own C: 0.961
    scores = fitted.description["log_loss_by_l2"]
    assert scores[f"{fitted.description['l2']:g}"] == min(scores.values())
    assert len(told) == len(scores) > 2
    assert json.loads(json.dumps(fitted.description)) == fitted.description
    logits = logits_of(fitted.out_of_fold, training.targets)
    calibrated = probabilities_of(logits / temperature(logits, training.targets), False)
    assert log_loss(training.targets, calibrated) == pytest.approx(min(scores.values()), rel=1e-3)
    assert fitted.description["l2_chosen_by"].startswith("cross-validation")
    assert fitted.out_of_fold.sum(axis=1) == pytest.approx(1, abs=1e-5)
    again = fit_head(training, HeadOptions(l2=fitted.description["l2"], folds=2), silent)
    expected = fit_head(training, HeadOptions(l2=fitted.description["l2"], folds=2), silent)
    assert (again.head.layers[0].kernel == expected.head.layers[0].kernel).all()


@pytest.mark.parametrize("l2", [0.01, 0.0003])
def test_the_optimum_is_that_of_scikit_learn(digits, l2):
    training, held_out = digits
    fitted = fit_head(training, HeadOptions(l2=l2, folds=2), silent)
    scaler = StandardScaler().fit(training.vectors)
    peer = LogisticRegression(C=1 / (2 * len(training.ids) * l2), max_iter=1000, tol=1e-6)
    peer.fit(scaler.transform(training.vectors), training.targets)
    expected = peer.predict_proba(scaler.transform(held_out.vectors))
    got = probabilities_of(fitted.head.logits(held_out.vectors), is_multi_label=False)
    assert log_loss(held_out.targets, got) == pytest.approx(
        log_loss(held_out.targets, expected), rel=0.02
    )
    assert (got.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.995


def test_a_memory_map_sorted_by_class_gives_the_same_head(digits, tmp_path):
    training, _ = digits
    order = np.argsort(training.targets, kind="stable")
    np.save(tmp_path / "vectors.npy", training.vectors[order])
    mapped = dataclasses.replace(
        training.take(order), vectors=np.load(tmp_path / "vectors.npy", mmap_mode="r")
    )
    options = HeadOptions(l2=0.003, folds=2)
    kernels = [fit_head(x, options, silent).head.layers[0].kernel for x in (training, mapped)]
    assert np.corrcoef(kernels[0].ravel(), kernels[1].ravel())[0, 1] > 0.999


def test_much_data_has_fewer_folds_and_is_as_good(digits, monkeypatch):
    training, held_out = digits
    monkeypatch.setattr(fit, "_MUCH", 0)
    fitted = fit_head(training, HeadOptions(), silent)
    assert (fitted.description["folds"], fitted.description["folds_that_chose"]) == (3, 1)
    assert accuracy(fitted, held_out) >= 0.95  # scikit-learn's with its own C: 0.961
    # Each fold is asked a head that is as good: none began with one that knows the answers.
    assert (fitted.out_of_fold.argmax(axis=1) == training.targets).mean() >= 0.94


def test_rare_classes_are_found_more_often_where_classes_weigh_the_same():
    images = clusters(1200, 8, 2, apart=0.4)
    rare = np.concatenate([np.flatnonzero(images.targets == 0), [*range(600, 640)]])
    fitted = {
        weight: fit_head(images.take(rare), HeadOptions(class_weight=weight), silent)
        for weight in ("none", "balanced")
    }
    others = images.vectors[640:]
    found = {name: (f.head.logits(others).argmax(axis=1) == 1).mean() for name, f in fitted.items()}
    assert found["balanced"] > found["none"] + 0.1


def test_images_of_several_classes_get_a_sigmoid_each():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((900, 12)).astype(np.float32)
    truth = vectors @ random.standard_normal((12, 4)) + random.logistic(size=(900, 4)) > 1
    images = labelled(vectors[:600], truth[:600])
    fitted = fit_head(images, HeadOptions(l2=0.005, folds=3), silent)
    got = probabilities_of(fitted.head.logits(vectors[600:]), is_multi_label=True)
    scaler = StandardScaler().fit(vectors[:600])
    for number in range(4):
        peer = LogisticRegression(C=1 / (2 * 600 * 0.005))
        peer.fit(scaler.transform(vectors[:600]), truth[:600, number])
        expected = peer.predict_proba(scaler.transform(vectors[600:]))[:, 1]
        assert got[:, number] == pytest.approx(expected, abs=0.02)
    assert ((fitted.out_of_fold > 0.5) == truth[:600]).mean() > 0.75


def test_l1_leaves_out_what_says_nothing():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((500, 30)).astype(np.float32)
    targets = (vectors[:, 0] + vectors[:, 1] > 0).astype(np.int64)
    fitted = fit_head(labelled(vectors, targets), HeadOptions(l1=0.02, l2=0.0, folds=2), silent)
    sizes = abs(fitted.head.layers[0].kernel).max(axis=1)
    assert (sizes[2:] < 1e-3).sum() >= 25
    assert sizes[:2].min() > 0.1


@pytest.fixture(scope="module")
def rings() -> Labelled:
    """Two classes that no straight line tells apart: a disc in a ring."""
    random = np.random.default_rng(0)
    targets = np.arange(300) % 2
    angles, radii = random.uniform(0, 2 * np.pi, 300), 1 + 2 * targets + random.uniform(0, 1, 300)
    vectors = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    return labelled(vectors.astype(np.float32), targets)


NETWORK = HeadOptions(
    kind="mlp", folds=2, hidden_units=16, epochs=12, batch_size=32, learning_rate=0.05
)


def test_a_network_learns_what_no_line_divides(rings):
    fitted = fit_head(rings, NETWORK, silent)
    assert accuracy(fitted, rings) >= 0.95
    assert (fitted.out_of_fold.argmax(axis=1) == rings.targets).mean() >= 0.95
    assert [layer.kernel.shape for layer in fitted.head.layers] == [(2, 16), (16, 2)]
    assert fitted.head.dropout_rate == 0.2


def test_a_network_is_the_same_each_time(rings):
    together = dataclasses.replace(rings, groups=np.zeros(len(rings.ids), np.int64))
    options = dataclasses.replace(NETWORK, epochs=2)
    first, second = (fit_head(together, options, silent).head.layers for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.kernel == pytest.approx(other.kernel, abs=1e-6)


def test_a_network_without_hidden_units_and_of_several_classes():
    images = clusters(300, 6, 3, apart=1.5)
    several = dataclasses.replace(images, targets=np.eye(3, dtype=bool)[images.targets])
    options = dataclasses.replace(
        NETWORK,
        hidden_units=0,
        epochs=6,
        momentum=0.9,
        class_weight="balanced",
        label_smoothing=0.05,
    )
    fitted = fit_head(several, options, silent)
    (layer,) = fitted.head.layers
    assert layer.kernel.shape == (6, 3)
    found = probabilities_of(fitted.head.logits(images.vectors), is_multi_label=True) > 0.5
    assert (found == several.targets).mean() > 0.85


@pytest.fixture(scope="module")
def one_class_in_one_group() -> Labelled:
    """Four clear classes, and all images of the last belong together, as one patient's do."""
    images = clusters(160, 8, 4, apart=3)
    groups = np.where(images.targets == 3, 0, np.arange(1, 161))
    return dataclasses.replace(images, groups=groups)


@pytest.mark.parametrize("kind", ["logistic", "mlp"])
def test_a_head_is_not_asked_about_a_class_that_it_has_not_seen(one_class_in_one_group, kind):
    images = one_class_in_one_group
    options = dataclasses.replace(NETWORK, kind=kind, epochs=6, batch_size=16)
    fitted = fit_head(images, options, silent)
    unknown = np.isnan(fitted.out_of_fold).any(axis=1)
    assert (unknown == (images.targets == 3)).all()
    assert np.isnan(fitted.out_of_fold[unknown]).all()
    found = fitted.out_of_fold[~unknown].argmax(axis=1)
    assert (found == images.targets[~unknown]).mean() > 0.95
    assert accuracy(fitted, images) > 0.95
    if kind == "logistic":
        assert min(fitted.description["log_loss_by_l2"].values()) < 0.1


def test_of_several_classes_only_images_with_an_unknown_one_are_left_out(one_class_in_one_group):
    images = one_class_in_one_group
    several = dataclasses.replace(images, targets=np.eye(4, dtype=bool)[images.targets])
    fitted = fit_head(several, HeadOptions(folds=3, l2=0.01), silent)
    assert (np.isnan(fitted.out_of_fold).all(axis=1) == (images.targets == 3)).all()


@pytest.mark.parametrize("kind", ["logistic", "mlp"])
@pytest.mark.parametrize(
    ("groups", "may_be_known"),
    [(np.zeros(40), False), (np.arange(40) // 20, False), (np.arange(40) % 2, True)],
    ids=["one group", "a group each class", "two groups with both classes"],
)
def test_few_groups_train_a_head_all_the_same(kind, groups, may_be_known):
    images = clusters(40, 4, 2, apart=3)
    images = dataclasses.replace(images, groups=groups.astype(np.int64))
    told: list[str] = []
    options = dataclasses.replace(NETWORK, kind=kind, folds=5, epochs=6, batch_size=8)
    fitted = fit_head(images, options, told.append)
    assert accuracy(fitted, images) > 0.9
    assert np.isfinite(fitted.out_of_fold).all() == may_be_known
    assert np.isnan(fitted.out_of_fold).all() != may_be_known
    json.dumps(fitted.description, allow_nan=False)
    if kind == "logistic":
        chosen = fitted.description["l2_chosen_by"]
        assert chosen.startswith("cross-validation" if may_be_known else "nothing: too few groups")
    elif not may_be_known:
        assert told[-1] == (
            "all folds: 6 epochs, all of them, as there are too few groups to watch some"
        )


def test_a_network_of_fewer_groups_than_folds(rings):
    few = dataclasses.replace(rings, groups=np.arange(len(rings.ids)) // 2 % 3)
    fitted = fit_head(few, dataclasses.replace(NETWORK, folds=5, epochs=1), silent)
    assert fitted.description["folds"] == 3
    assert np.isfinite(fitted.out_of_fold).all()


def test_a_learning_rate_that_diverges_is_named(rings):
    options = dataclasses.replace(NETWORK, learning_rate=1e30, momentum=0.9, epochs=3)
    with pytest.raises(UserError, match=r"^learning_rate 1e\+30: .* give a lower one"):
        fit_head(rings, options, silent)


def test_later_folds_of_much_data_begin_with_nothing_learnt(monkeypatch):
    monkeypatch.setattr(fit, "_MUCH", 0)
    begun: list[float] = []
    solve = logistic.solve

    def watched(vectors, rows, targets, weights, scale, penalty, start, tolerance):
        begun.append(float(abs(start.kernel).max()))
        return solve(vectors, rows, targets, weights, scale, penalty, start, tolerance)

    monkeypatch.setattr(logistic, "solve", watched)
    fit_head(clusters(120, 4, 3), HeadOptions(strengths=(0.1, 0.01)), silent)
    first, second, *later, last = begun
    assert (first, later) == (0, [0, 0])
    assert second > 0 and last > 0


def test_passes_that_were_not_enough_are_told_once(digits, monkeypatch):
    monkeypatch.setattr(streaming, "MOST_PASSES", 3)
    told: list[str] = []
    fit_head(digits[0], HeadOptions(folds=2, strengths=(1e-3, 1e-4)), told.append)
    assert sum("passes over the images were not enough for l2 0.001" in line for line in told) == 1
    assert sum("not enough" in line for line in told) == 1


def spoilt(**changes) -> Labelled:
    return dataclasses.replace(clusters(12, 4, 3), **changes)


def with_value(value: float) -> np.ndarray:
    vectors = np.ones((12, 4), np.float32)
    vectors[[7, 9], 2] = value
    return vectors


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (spoilt().take(np.zeros(12, bool)), "there are no labelled images to train on; "),
        (spoilt(classes=("cat",), targets=np.zeros(12, np.int64)), "there is 1 class, 'cat', and "),
        (spoilt(targets=np.array([2] + [0, 1] * 5 + [0])), "class 'class 02': it has one image, "),
        (spoilt(targets=np.array([0, 1] * 6)), "class 'class 02': it has no image, "),
        (spoilt(vectors=with_value(np.nan)), "7.jpg: its feature vector has a value that is NaN"),
        (spoilt(vectors=with_value(np.inf)), "7.jpg: its feature vector has a value that is NaN"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(images, told):
    with pytest.raises(UserError) as caught:
        refuse_untrainable(images)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError):
        fit_head(images, HeadOptions(), silent)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("folds", 1),
        ("strengths", (0.1, -1.0)),
        ("l1", np.nan),
        ("l2", -1.0),
        ("seed", -1),
        ("epochs", 0),
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("dropout_rate", 1.0),
    ],
)
def test_an_option_out_of_its_range_is_named(name, value):
    with pytest.raises(UserError, match=f"^{name} .*needed"):
        dataclasses.replace(HeadOptions(), **{name: value})
