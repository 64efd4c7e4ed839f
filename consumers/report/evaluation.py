"""Logits and known labels to `Metrics`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from consumers.report.calibration import reliability
from consumers.report.metrics import Abstention, ClassMetrics, Confusion, Metrics, Share
from consumers.report.probabilities import (
    label_losses,
    log_probabilities,
    refuse_misfit,
    row_blocks,
)

MOST_CLASSES_OF_A_MATRIX = 1000
MOST_CONFUSED = 100


def evaluate(
    logits: np.ndarray,
    targets: np.ndarray,
    classes: tuple[str, ...],
    *,
    temperature: float = 1.0,
    precision_wanted: float = 0.95,
) -> Metrics:
    """Metrics of the logits divided by a temperature, and what that has changed.

    Args:
      logits: float32 [n, C], finite, as they are before the temperature.
      targets: int64 [n], positions in `classes`; or bool [n, C] where an image may be of several.
      classes: C names.
      temperature: found on other images, as by `consumers.report.calibration.temperature`; it
        changes probabilities and no answer.
      precision_wanted: how often answers are to be right where the classifier may abstain.

    Raises:
      ValueError: shapes that do not fit, no images, or logits that are not finite.
    """
    refuse_misfit(logits, targets, classes)
    if not np.isfinite(logits).all():
        raise ValueError("logits that are not finite")
    if targets.ndim == 2:
        return _of_several(logits, targets, classes, temperature)
    return _of_one(logits, targets, classes, temperature, precision_wanted)


def _of_one(
    logits: np.ndarray,
    targets: np.ndarray,
    classes: tuple[str, ...],
    temperature: float,
    precision_wanted: float,
) -> Metrics:
    answers = logits.argmax(1)
    is_right = answers == targets
    confidence, log_loss = _confidence_and_loss(logits, targets, temperature)
    confidence_before, log_loss_before = _confidence_and_loss(logits, targets, 1.0)
    per_class = _class_metrics(targets, answers, classes)
    tried = len(targets)
    return Metrics(
        is_multi_label=False,
        accuracy=Share(int(is_right.sum()), tried),
        classes=per_class,
        macro_f1=_mean([each.f1 for each in per_class]),
        log_loss=log_loss,
        log_loss_before=log_loss_before,
        temperature=temperature,
        reliability=reliability(confidence, is_right),
        reliability_before=reliability(confidence_before, is_right),
        top_5=Share(_among_best(logits, targets, 5), tried) if len(classes) > 5 else None,
        abstention=_abstention(confidence, is_right, precision_wanted),
        confused=_most_confused(targets, answers, classes),
        confusion=_confusion(targets, answers, len(classes)),
    )


def _of_several(
    logits: np.ndarray, targets: np.ndarray, classes: tuple[str, ...], temperature: float
) -> Metrics:
    answers = logits > 0
    is_wrong = answers != targets
    probabilities, log_loss = _probabilities_and_loss(logits, targets, temperature)
    probabilities_before, log_loss_before = _probabilities_and_loss(logits, targets, 1.0)
    per_class = _label_metrics(logits, targets, answers, classes)
    hits, given = int((answers & targets).sum()), int(answers.sum()) + int(targets.sum())
    return Metrics(
        is_multi_label=True,
        accuracy=Share(int((~is_wrong.any(1)).sum()), len(targets)),
        classes=per_class,
        macro_f1=_mean([each.f1 for each in per_class]),
        log_loss=log_loss,
        log_loss_before=log_loss_before,
        temperature=temperature,
        reliability=reliability(probabilities, targets),
        reliability_before=reliability(probabilities_before, targets),
        micro_f1=2 * hits / given if given else None,
        micro_average_precision=_average_precision(targets.ravel(), logits.ravel()),
        mean_average_precision=_mean([each.average_precision for each in per_class]),
        hamming_loss=float(is_wrong.mean()),
    )


def _confidence_and_loss(
    logits: np.ndarray, targets: np.ndarray, temperature: float
) -> tuple[np.ndarray, float]:
    """The largest probability of each image, float64 [n], and the mean log loss."""
    confidence, loss = np.empty(len(logits)), 0.0
    for rows in row_blocks(logits.shape):
        logs = log_probabilities(logits[rows] / temperature)
        confidence[rows] = np.exp(logs.max(1))
        loss -= float(np.take_along_axis(logs, targets[rows, None], axis=1).sum())
    return confidence, loss / len(logits)


def _probabilities_and_loss(
    logits: np.ndarray, targets: np.ndarray, temperature: float
) -> tuple[np.ndarray, float]:
    """Each label's probability, float32 [n, C], and the mean log loss of a label."""
    from scipy.special import expit

    probabilities, loss = np.empty(logits.shape, np.float32), 0.0
    for rows in row_blocks(logits.shape):
        scaled = logits[rows] / temperature
        probabilities[rows] = expit(scaled)
        loss += float(label_losses(scaled, targets[rows]).sum())
    return probabilities, loss / logits.size


def _among_best(logits: np.ndarray, targets: np.ndarray, k: int) -> int:
    """How many images have their class among the k best; of equal logits the first is better."""
    found = 0
    positions = np.arange(logits.shape[1])
    for rows in row_blocks(logits.shape):
        own = targets[rows, None]
        mine = np.take_along_axis(logits[rows], own, axis=1)
        better = (logits[rows] > mine) | ((logits[rows] == mine) & (positions < own))
        found += int((better.sum(1) < k).sum())
    return found


def _abstention(
    confidence: np.ndarray, is_right: np.ndarray, precision_wanted: float
) -> Abstention:
    order = np.argsort(-confidence, kind="stable")
    sure, right = confidence[order], np.cumsum(is_right[order])
    answered = np.arange(1, len(sure) + 1)
    # A threshold takes all images of one confidence or none of them.
    ends = np.append(sure[1:] < sure[:-1], True)
    good = np.flatnonzero(ends & (right >= precision_wanted * answered))
    if not len(good):
        return Abstention(precision_wanted, None, None, 0.0)
    last = int(good[-1])
    everything = last == len(sure) - 1
    threshold = 0.0 if everything else float((sure[last] + sure[last + 1]) / 2)
    share = Share(int(right[last]), last + 1)
    return Abstention(precision_wanted, threshold, share, share.whole / len(sure))


def _class_metrics(
    targets: np.ndarray, answers: np.ndarray, classes: tuple[str, ...]
) -> tuple[ClassMetrics, ...]:
    count = len(classes)
    hits = np.bincount(targets[targets == answers], minlength=count)
    support, predicted = (
        np.bincount(targets, minlength=count),
        np.bincount(answers, minlength=count),
    )
    columns = zip(classes, support.tolist(), predicted.tolist(), hits.tolist(), strict=True)
    return tuple(_against_others(*column) for column in columns)


def _label_metrics(
    logits: np.ndarray, targets: np.ndarray, answers: np.ndarray, classes: tuple[str, ...]
) -> tuple[ClassMetrics, ...]:
    hits = (targets & answers).sum(0)
    areas = [_average_precision(targets[:, c], logits[:, c]) for c in range(len(classes))]
    counts = (targets.sum(0).tolist(), answers.sum(0).tolist(), hits.tolist())
    columns = zip(classes, *counts, areas, strict=True)
    return tuple(_against_others(*column) for column in columns)


def _against_others(
    name: str, support: int, predicted: int, hits: int, average_precision: float | None = None
) -> ClassMetrics:
    either = support + predicted
    return ClassMetrics(
        name,
        support,
        predicted,
        hits,
        precision=hits / predicted if predicted else None,
        recall=hits / support if support else None,
        f1=2 * hits / either if either else None,
        average_precision=average_precision,
    )


def _average_precision(targets: np.ndarray, logits: np.ndarray) -> float | None:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(targets, logits)) if targets.any() else None


def _most_confused(
    targets: np.ndarray, answers: np.ndarray, classes: tuple[str, ...]
) -> tuple[Confusion, ...]:
    is_wrong = targets != answers
    pairs, counts = np.unique(
        targets[is_wrong] * len(classes) + answers[is_wrong], return_counts=True
    )
    most = np.argsort(-counts, kind="stable")[:MOST_CONFUSED]
    return tuple(
        Confusion(classes[pair // len(classes)], classes[pair % len(classes)], int(count))
        for pair, count in zip(pairs[most], counts[most], strict=True)
    )


def _confusion(targets: np.ndarray, answers: np.ndarray, count: int) -> np.ndarray | None:
    if count > MOST_CLASSES_OF_A_MATRIX:
        return None
    return np.bincount(targets * count + answers, minlength=count**2).reshape(count, count)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
