"""The card is Markdown that says what happened, its code runs, and no name in it is obeyed."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import numpy as np
import pytest
from markdown_it import MarkdownIt

from consumers.report.card import CardFacts, model_card
from consumers.report.evaluation import evaluate
from consumers.report.names import as_markdown

SIZE = 16
CLASSES = tuple(f"class_{position}" for position in range(8))
ODD = (
    "a|b",
    "`code`",
    "<script>alert(1)</script>",
    "a\nb\n\n# c",
    "[x](https://example.com)",
    "![](http://example.com/a.png)",
    "https://example.com www.example.com",
    "**bold** _it_ ~~gone~~ $x$ &lt; \\",
)


def card_facts(classes: tuple[str, ...] = CLASSES, **changes) -> CardFacts:
    count = len(classes)
    targets = np.arange(10 * count) % count
    logits = np.random.default_rng(0).normal(0, 1, (len(targets), count)).astype(np.float32)
    logits[np.arange(len(targets)), targets] += 3
    facts = CardFacts(
        name="digits",
        extractor="https://example.com/model?token=abc123secret",
        extractor_digest="sha256-0123",
        is_fine_tuned=False,
        image_size=(SIZE, SIZE),
        data="photos/",
        training_counts=tuple(range(15, 15 + count)),
        training_images=1438,
        held_out=0.2,
        group_column="patient_id",
        seed=7,
        near_duplicates=12,
        duplicate_cosine=0.995,
        head={"method": "logistic regression", "strength": 0.001},
        suspects=5,
        metrics=evaluate(logits, targets, classes, temperature=1.25),
        versions={"beam-image-features": "0.1.0", "tensorflow": "2.21.0"},
    )
    return dataclasses.replace(facts, **changes)


def save_reusable_model(directory: pathlib.Path) -> None:
    import tensorflow as tf

    model = tf.train.Checkpoint(kernel=tf.Variable(tf.ones([3, len(CLASSES)])))
    model.trainable_variables = model.variables = [model.kernel]

    @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)])
    def call(images):
        return tf.reduce_mean(images, [1, 2]) @ model.kernel

    model.__call__ = call
    tf.saved_model.save(model, str(directory))


def rendered(card: str) -> str:
    """As HTML, by CommonMark with tables; what HTML there is in the text is kept."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table"]).render(card.split("---\n")[2])


def table_rows(html: str) -> list[list[str]]:
    return [
        re.findall(r"<t[dh]>(.*?)</t[dh]>", row, re.DOTALL)
        for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    ]


def test_the_card_tells_what_happened():
    facts = card_facts()
    card = model_card(facts)
    accuracy = facts.metrics.accuracy
    low, high = accuracy.interval
    for told in (
        f"{accuracy.part} of {accuracy.whole} are correct",
        f"({100 * low:.2f} % to {100 * high:.2f} %)",
        "20 % of the images were held out",
        r"one patient\_id on one side; seed 7",
        "12 images have a near duplicate (cosine of the vectors at least 0.995)",
        "5 labels are doubtful",
        "temperature of 1.250",
        f"it was {facts.metrics.reliability_before.expected_error:.4f} before",
        "5 classes have fewer than 20 images",
        "16 × 16 pixels",
        "sha256-0123",
        "With every image answered, at least 95 % of the answers are right",
    ):
        assert told in card
    rows = table_rows(rendered(card))
    assert ["strength", "0.001"] in rows
    assert ["tensorflow", "2.21.0"] in rows
    first = facts.metrics.classes[0]
    numbers = [f"{value:.4f}" for value in (first.precision, first.recall, first.f1)]
    assert [first.name, "15", "10", *numbers] in rows


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (0.96, "To be right in 96 % of the answers, answer where the largest probability is"),
        (1.0, "At no confidence are 100 % of the answers right"),
    ],
)
def test_the_card_tells_when_to_abstain(wanted, told):
    logits = np.array([[9, 0], [5, 0], [0, 1]] * 10, np.float32)
    targets = np.array([0, 0, 0] * 10)
    if wanted == 1:
        targets[0] = 1
    metrics = evaluate(logits, targets, ("a", "b"), precision_wanted=wanted)
    assert told in model_card(card_facts(("a", "b"), metrics=metrics))


def test_the_card_tells_no_secret():
    card = model_card(card_facts())
    assert "abc123secret" not in card
    assert r"https\://example.com/model" in card


@pytest.mark.parametrize("name", ODD)
def test_a_name_means_only_itself(name):
    html = rendered(model_card(card_facts((*ODD, "plain"), name=name, data=name, extractor=name)))
    plain = rendered(model_card(card_facts(tuple("abcdefghi"), name="n", data="d", extractor="e")))
    tags = [re.findall(r"</?(\w+)", text) for text in (html, plain)]
    assert tags[0] == tags[1], "no tag is there that is not there for plain names"
    names = [row[0] for row in table_rows(html)]
    assert (
        name.replace("\n", "\\u000a")
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        in names
    )


def test_a_long_name_is_cut():
    assert as_markdown("x" * 500) == "x" * 199 + "…"


def test_of_many_classes_the_worst_are_shown():
    card = model_card(card_facts(tuple(f"class {row}" for row in range(150))))
    assert "The 100 classes with the lowest F1:" in card
    shown = [row for row in table_rows(rendered(card)) if row[0].startswith("class ")]
    assert len(shown) == 100
    assert [row[5] for row in shown] == sorted(row[5] for row in shown)


def test_what_was_not_looked_for_is_not_told():
    facts = card_facts(near_duplicates=None, suspects=None, group_column=None, image_size=None)
    card = model_card(facts)
    assert "near duplicate" not in card
    assert "label_suspects" not in card
    assert "any size" in card
    assert "None" not in card


def test_several_classes_an_image():
    targets = np.eye(3, dtype=bool)[[0, 1, 2, 0]]
    metrics = evaluate((targets * 4.0 - 2).astype(np.float32), targets, ("a", "b", "c"))
    card = model_card(card_facts(("a", "b", "c"), metrics=metrics))
    assert "any number of the 3\nclasses" in card
    assert "| all labels right | 100 %" in card
    assert "mean average precision" in card
    assert "tf.nn.sigmoid" in card


def test_the_code_on_the_card_runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_reusable_model(tmp_path / "MODEL")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", model_card(card_facts()), re.DOTALL)
    assert len(blocks) == 2
    space: dict = {}
    for block in blocks:
        exec(block, space)
    assert space["probabilities"].numpy().sum() == pytest.approx(1)
    logits = space["classifier"](np.zeros([2, SIZE, SIZE, 3], np.float32))
    assert logits.shape == (2, len(CLASSES))
    assert len(space["classifier"].trainable_variables) == 1


def test_what_hugging_face_reads_is_yaml_of_ours_alone():
    front = model_card(card_facts(name="x\n---\nevil: true")).split("---\n")[1]
    assert front.splitlines() == [
        "library_name: tensorflow",
        "pipeline_tag: image-classification",
        "tags:",
        "- image-classification",
        "- tf-hub",
    ]
