"""How good a classifier is on images that it has not seen: what `metrics.json` says."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from consumers.report.calibration import Reliability

FORMAT_OF_JSON = 1


@dataclasses.dataclass(frozen=True)
class Share:
    """How many of how many, with the 95 % confidence interval of Wilson (1927).

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22. It
    takes the images for independent draws of those that the classifier will see.

    >>> share = Share(95, 100)
    >>> share.value, [round(bound, 3) for bound in share.interval]
    (0.95, [0.888, 0.978])
    """

    part: int
    whole: int

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.part / self.whole

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound, in [0, 1]."""
        from scipy.stats import binomtest

        interval = binomtest(self.part, self.whole).proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)


@dataclasses.dataclass(frozen=True)
class ClassMetrics:
    """One class against all others; None where nothing is divided by nothing.

    Attributes:
      name: of the class.
      support: images that are of it.
      predicted: images that are taken for it.
      hits: images that are both.
      precision: hits / predicted.
      recall: hits / support.
      f1: 2 · hits / (support + predicted).
      average_precision: the area under precision over recall, as scikit-learn has it; only where
        an image may be of several classes.
    """

    name: str
    support: int
    predicted: int
    hits: int
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None = None


@dataclasses.dataclass(frozen=True)
class Abstention:
    """Answering only when sure enough: what it takes for a wished precision, and what it costs.

    Attributes:
      precision_wanted: in (0, 1].
      threshold: answers of a confidence (the largest probability) of at least this are right that
        often; 0 where all of them are. It lies halfway to the next lower confidence, as another
        program may round otherwise. None: there is no such threshold.
      answered: images that are answered, and how many of these are right.
      coverage: the share of the images that is answered.
    """

    precision_wanted: float
    threshold: float | None
    answered: Share | None
    coverage: float


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Images of one class that are taken for another."""

    label: str
    taken_for: str
    images: int


@dataclasses.dataclass(frozen=True, eq=False)
class Metrics:
    """What there is to say of a classifier's answers to images with known labels.

    Attributes:
      is_multi_label: whether an image may be of several classes: then a class is an answer where
        its probability is above one half, and an image is correct where all its classes are.
      accuracy: images that are correct, of those tried.
      classes: each of them.
      macro_f1: mean F1 of the classes that have one.
      log_loss: nats an image (a label, with several), at the temperature and before it.
      temperature: what the logits were divided by.
      reliability: of the answers (of all labels, with several), at the temperature and before it.
      top_5: images whose class is among the five best; with more than five classes and one each.
      abstention: None with several classes an image, as is the rest of this line: confused (the
        most frequent mistakes, the most frequent first), confusion (int64 [C, C], rows are the
        true classes; None also above 1,000 classes).
      micro_f1, micro_average_precision, mean_average_precision, hamming_loss (the share of wrong
        labels): only with several classes an image.
    """

    is_multi_label: bool
    accuracy: Share
    classes: tuple[ClassMetrics, ...]
    macro_f1: float | None
    log_loss: float
    log_loss_before: float
    temperature: float
    reliability: Reliability
    reliability_before: Reliability
    top_5: Share | None = None
    abstention: Abstention | None = None
    confused: tuple[Confusion, ...] = ()
    confusion: np.ndarray | None = None
    micro_f1: float | None = None
    micro_average_precision: float | None = None
    mean_average_precision: float | None = None
    hamming_loss: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps(…, allow_nan=False)`: counts as integers, shares in [0, 1], or None."""
        low, high = self.accuracy.interval
        said: dict[str, Any] = {
            "format": FORMAT_OF_JSON,
            "images": self.accuracy.whole,
            "correct": self.accuracy.part,
            "accuracy": self.accuracy.value,
            "accuracy_95_percent_interval": [low, high],
            "macro_f1": self.macro_f1,
            "log_loss": self.log_loss,
            "log_loss_before_temperature_scaling": self.log_loss_before,
            "temperature": self.temperature,
            "expected_calibration_error": self.reliability.expected_error,
            "expected_calibration_error_before_temperature_scaling": (
                self.reliability_before.expected_error
            ),
        }
        said |= self._of_several_labels() if self.is_multi_label else self._of_one_label()
        said["reliability"] = _bins(self.reliability)
        said["reliability_before_temperature_scaling"] = _bins(self.reliability_before)
        return said

    def _of_one_label(self) -> dict[str, Any]:
        assert self.abstention is not None
        answered = self.abstention.answered
        return {
            "top_5_accuracy": self.top_5.value if self.top_5 else None,
            "abstain": {
                "precision_wanted": self.abstention.precision_wanted,
                "threshold": self.abstention.threshold,
                "images_answered": answered.whole if answered else 0,
                "correct_of_these": answered.part if answered else 0,
                "coverage": self.abstention.coverage,
            },
            "classes": [_class_json(each) for each in self.classes],
            "most_confused": [dataclasses.asdict(pair) for pair in self.confused],
            "confusion_matrix": None if self.confusion is None else self.confusion.tolist(),
        }

    def _of_several_labels(self) -> dict[str, Any]:
        return {
            "micro_f1": self.micro_f1,
            "mean_average_precision": self.mean_average_precision,
            "micro_average_precision": self.micro_average_precision,
            "hamming_loss": self.hamming_loss,
            "classes": [_label_json(each, self.accuracy.whole) for each in self.classes],
        }


def _class_json(each: ClassMetrics) -> dict[str, Any]:
    return {
        "class": each.name,
        "images": each.support,
        "predicted": each.predicted,
        "correct": each.hits,
        "precision": each.precision,
        "recall": each.recall,
        "f1": each.f1,
    }


def _label_json(each: ClassMetrics, images: int) -> dict[str, Any]:
    """With the other three numbers of the class's own confusion matrix."""
    return _class_json(each) | {
        "false_positives": each.predicted - each.hits,
        "false_negatives": each.support - each.hits,
        "true_negatives": images - each.support - each.predicted + each.hits,
        "average_precision": each.average_precision,
    }


def _bins(measured: Reliability) -> list[dict[str, Any]]:
    columns = zip(measured.counts, measured.confidence, measured.accuracy, strict=True)
    return [
        {
            "answers": int(count),
            "mean_confidence": float(confidence) if count else None,
            "accuracy": float(accuracy) if count else None,
        }
        for count, confidence, accuracy in columns
    ]
