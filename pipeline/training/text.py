"""What a training says when it is done, on stdout."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from consumers.classifier_files import METRICS_FILE, SUSPECTS_FILE, Classifier
from consumers.learning import Learned
from pipeline.options import program
from pipeline.terminal.words import count
from pipeline.training.values import TrainOptions


def trained_lines(options: TrainOptions, classifier: Classifier, learned: Learned) -> Iterator[str]:
    """How good the classifier is, where it is, and what to type next."""
    metrics = classifier.metrics
    low, high = metrics.accuracy.interval
    what = "all labels right" if metrics.is_multi_label else "accuracy"
    yield (
        f"{what:16} {metrics.accuracy.value:.2%} ({low:.1%} to {high:.1%}): "
        f"{metrics.accuracy.part:,} of {metrics.accuracy.whole:,} held-out images"
    )
    yield (
        f"calibration      error {metrics.reliability.expected_error:.4f}, before the temperature "
        f"{metrics.temperature:.3g} it was {metrics.reliability_before.expected_error:.4f}"
    )
    if classifier.tuned is None:
        yield f"head             {learned.fitted.method}"
    else:
        frozen = learned.metrics.accuracy
        yield (
            f"fine-tuned       {frozen.part:,} with the head on frozen vectors; the model's own "
            "vectors: feature_vector/"
        )
    most = max(each.support for each in metrics.classes)
    if metrics.accuracy.part <= most and not metrics.is_multi_label:
        yield "warning          no better than to answer the most frequent class always"
    yield f"doubtful labels  {len(learned.suspects):,}, the worst first in {SUSPECTS_FILE}"
    if learned.near_duplicates:
        yield f"near duplicates  {count(learned.near_duplicates, 'image')}, never on both sides"
    if options.output is not None:
        yield f"model            {options.output}: more in model_card.md and {METRICS_FILE}"
        words = ["--task", "classification", "--model", options.output]
        words += ["--input", options.image_dir or "PHOTOS", "--output", "LOGITS"]
        yield "next             " + shlex.join([*program.called("run").split(), *words])
