"""The model card: what stands beside a classifier for whoever finds it, as Markdown.

Its sections are those of Mitchell et al., "Model Cards for Model Reporting", FAT* 2019; the lines
at its top are those that Hugging Face reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from consumers.report.metrics import ClassMetrics, Metrics
from consumers.report.names import as_markdown
from transforms.storage.secrets import masked

MOST_CLASSES = 100
"""Rows of a table; of more classes it has those with the lowest F1."""

Choice = str | int | float | bool | None


@dataclasses.dataclass(frozen=True)
class CardFacts:
    """What a model card tells.

    Texts may come from outside: the card shows them and nothing in them is obeyed.

    Attributes:
      name: of the classifier.
      extractor: name or URI of the model that makes the feature vectors; secrets of a URL go.
      extractor_digest: of its files.
      is_fine_tuned: whether the extractor's variables were trained as well.
      image_size: height and width in pixels; None where any does.
      data: where the images and labels are from.
      training_counts: images of each class that were trained on, in the order of the metrics'
        classes; an image of several classes counts for each.
      training_images: how many there were.
      held_out: share of the images that was held out, in (0, 1).
      group_column: images of one value of it are on one side of the split; None: not asked for.
      seed: of the split and of the training.
      near_duplicates: images that have a near duplicate; None: not looked for.
      duplicate_cosine: from which cosine of their vectors images are near duplicates.
      head: what was chosen for the training, such as `{"method": "logistic regression"}`.
      suspects: labels that `label_suspects.csv` lists; None: there is no such file.
      metrics: on the held-out images.
      versions: of the program and libraries, by name.
    """

    name: str
    extractor: str
    extractor_digest: str
    is_fine_tuned: bool
    image_size: tuple[int, int] | None
    data: str
    training_counts: tuple[int, ...]
    training_images: int
    held_out: float
    group_column: str | None
    seed: int
    near_duplicates: int | None
    duplicate_cosine: float
    head: Mapping[str, Choice]
    suspects: int | None
    metrics: Metrics
    versions: Mapping[str, str]


def model_card(facts: CardFacts) -> str:
    """The text of `model_card.md`; it names no directory, as a card travels with its model."""
    sections = [
        _front(facts),
        _training(facts),
        _intended_use(facts),
        _results(facts),
        _calibration(facts.metrics),
        _limits(facts),
        _loading(facts),
        _versions(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _front(facts: CardFacts) -> str:
    labels = "any number of" if facts.metrics.is_multi_label else "one of"
    how = "fine-tuned with" if facts.is_fine_tuned else "used as it is, under"
    extractor, count = as_markdown(masked(facts.extractor)), len(facts.metrics.classes)
    size = "any size" if facts.image_size is None else "{} × {} pixels".format(*facts.image_size)
    return f"""\
---
library_name: tensorflow
pipeline_tag: image-classification
tags:
- image-classification
- tf-hub
---

# {as_markdown(facts.name)}

An image classifier as a Reusable SavedModel: from images (float32 [B, height, width, 3], RGB,
values in [0, 1], {size}) to float32 [B, {count}] logits. An image is of {labels} the {count}
classes in `labels.txt`, which are in the order of the logits.

- Extractor of feature vectors: {extractor}, {how} a head made for these classes
- Digest of the extractor: {as_markdown(facts.extractor_digest)}"""


def _training(facts: CardFacts) -> str:
    split = f"{_percent(facts.held_out)} of the images were held out, stratified by class"
    if facts.group_column is not None:
        split += f", with the images of one {as_markdown(facts.group_column)} on one side"
    lines = [
        "## Training",
        "",
        f"- Data: {as_markdown(masked(facts.data))}",
        f"- {_counted(facts.training_images, 'image', 'images')} trained on; the table of the "
        "results has their classes",
        f"- Split: {split}; seed {facts.seed}",
    ]
    if facts.near_duplicates is not None:
        lines.append(
            f"- {_counted(facts.near_duplicates, 'image has', 'images have')} a near duplicate "
            f"(cosine of the vectors at least {facts.duplicate_cosine:g}), which is on the same "
            "side of the split"
        )
    if facts.suspects is not None:
        lines.append(
            f"- {_counted(facts.suspects, 'label is', 'labels are')} doubtful: "
            "`label_suspects.csv`; the training took all labels as they are"
        )
    chosen = [(as_markdown(key), _choice(value)) for key, value in facts.head.items()]
    return "\n".join([*lines, "", *_table(("of the training", "chosen"), chosen)])


def _intended_use(facts: CardFacts) -> str:
    return """\
## Intended use

Images like those of the training data, of the classes that it knows. It is not made for decisions
about people, or for any in which a wrong answer does harm that nobody looks at."""


def _results(facts: CardFacts) -> str:
    metrics = facts.metrics
    low, high = metrics.accuracy.interval
    what = "all labels right" if metrics.is_multi_label else "accuracy"
    rows = [
        (what, f"{_percent(metrics.accuracy.value)} ({_percent(low)} to {_percent(high)})"),
        ("macro F1", _number(metrics.macro_f1)),
    ]
    if metrics.top_5 is not None:
        rows.append(("top-5 accuracy", _percent(metrics.top_5.value)))
    if metrics.is_multi_label:
        rows += [
            ("micro F1", _number(metrics.micro_f1)),
            ("mean average precision", _number(metrics.mean_average_precision)),
            ("Hamming loss", _number(metrics.hamming_loss)),
        ]
    rows.append(("log loss", _number(metrics.log_loss)))
    correct = f"{metrics.accuracy.part} of {metrics.accuracy.whole}"
    return "\n".join(
        [
            "## Results",
            "",
            f"On the held-out images: {correct} are correct. The interval is Wilson's, at 95 %; "
            "`metrics.json` has more.",
            "",
            *_table(("metric", "value"), rows),
            "",
            *_per_class(facts),
        ]
    )


def _per_class(facts: CardFacts) -> list[str]:
    pairs = list(zip(facts.metrics.classes, facts.training_counts, strict=True))
    note = []
    if len(pairs) > MOST_CLASSES:
        pairs = sorted(pairs, key=lambda pair: _f1(pair[0]))[:MOST_CLASSES]
        note = [f"The {MOST_CLASSES} classes with the lowest F1:", ""]
    rows = [
        (
            as_markdown(each.name),
            str(count),
            str(each.support),
            *(_number(value) for value in (each.precision, each.recall, each.f1)),
        )
        for each, count in pairs
    ]
    return note + _table(("class", "trained on", "held out", "precision", "recall", "F1"), rows)


def _calibration(metrics: Metrics) -> str:
    text = (
        "## Calibration\n\n"
        f"The logits are divided by a temperature of {metrics.temperature:.3f}, which is in the "
        "model. The expected calibration error is "
        f"{metrics.reliability.expected_error:.4f}; it was "
        f"{metrics.reliability_before.expected_error:.4f} before."
    )
    if metrics.abstention is None:
        return text
    wanted = _percent(metrics.abstention.precision_wanted)
    if metrics.abstention.threshold is None or metrics.abstention.answered is None:
        return f"{text} At no confidence are {wanted} of the answers right."
    if not metrics.abstention.threshold:
        return f"{text} With every image answered, at least {wanted} of the answers are right."
    return (
        f"{text} To be right in {wanted} of the answers, answer where the largest probability is "
        f"at least {metrics.abstention.threshold:.4f}: that is "
        f"{_percent(metrics.abstention.coverage)} of the held-out images."
    )


def _limits(facts: CardFacts) -> str:
    rare = sum(count < 20 for count in facts.training_counts)
    lines = [
        "## Limits",
        "",
        "- An image of none of the classes is "
        + ("not excluded by a low score." if facts.metrics.is_multi_label else "put into one."),
        "- The numbers hold for images like the held-out ones; other cameras, places or times have "
        "others. Thresholds were chosen on the images that they are told for.",
        "- What the extractor was trained on, with its gaps and biases, stays in its vectors.",
    ]
    if rare:
        classes = _counted(rare, "class has", "classes have")
        lines.append(f"- {classes} fewer than 20 images to learn from.")
    if facts.suspects:
        lines.append("- Some labels are doubtful, in the held-out images as well, it may be.")
    return "\n".join(lines)


def _loading(facts: CardFacts) -> str:
    height, width = facts.image_size or (224, 224)
    activation = "sigmoid" if facts.metrics.is_multi_label else "softmax"
    return f"""\
## How to use it

`MODEL/` is the directory that this card is in.

```python
import tensorflow as tf
import tensorflow_hub as hub

model = hub.load("MODEL/")
images = tf.zeros([1, {height}, {width}, 3])  # RGB in [0, 1]
probabilities = tf.nn.{activation}(model(images))
```

As a layer, to train it further:

```python
import tensorflow_hub as hub
import tf_keras

layer = hub.KerasLayer("MODEL/", trainable=True)
classifier = tf_keras.Sequential([tf_keras.layers.InputLayer([{height}, {width}, 3]), layer])
```

On a directory of images, with classes and scores in Parquet:

```sh
python -m pipeline.run --task classification --model MODEL/ --input IMAGES/ --output OUT/
```"""


def _versions(facts: CardFacts) -> str:
    rows = [(as_markdown(name), as_markdown(text)) for name, text in facts.versions.items()]
    return "\n".join(["## Versions", "", *_table(("of", "version"), rows)])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _choice(value: Choice) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return as_markdown(str(value))


def _f1(each: ClassMetrics) -> float:
    return -1.0 if each.f1 is None else each.f1


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + " %"


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
