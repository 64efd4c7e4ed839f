"""The TFLite file: the same logits, or one line that says why there is none."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from consumers.export import tflite
from consumers.export.classifier import save_classifier
from consumers.export.tflite import to_tflite
from tests.helpers import model_forms
from tests.helpers.classifiers import DESCRIPTION, noise, random_head, save_small_classifier
from transforms.errors import UserError
from transforms.models.source import ModelSource


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_gives_the_logits_of_the_classifier(tmp_path, capfd):
    classifier = save_small_classifier(tmp_path)
    size = model_forms.SIZE
    capfd.readouterr()
    made = to_tflite(classifier.path, (size, size))
    assert capfd.readouterr() == ("", "")
    interpreter = tf.lite.Interpreter(model_content=made.content)
    interpreter.allocate_tensors()
    [given], [answered] = interpreter.get_input_details(), interpreter.get_output_details()
    assert (given["dtype"], given["shape"].tolist()) == (np.float32, [1, size, size, 3])
    images = noise(1)
    interpreter.set_tensor(given["index"], images)
    interpreter.invoke()
    expected = hub.load(classifier.path)(images)
    np.testing.assert_allclose(interpreter.get_tensor(answered["index"]), expected, atol=1e-5)
    assert 0 <= made.max_difference < 1e-5


def test_an_op_that_tflite_does_not_know_is_named(tmp_path):
    def answer(model, images):
        return tf.linalg.det(images[:, :3, :3, 0])[:, None] * model.vectors(images)

    model_forms.module(tmp_path / "m", answer, model_forms.pixels())
    source = ModelSource(name=str(tmp_path / "m"))
    out = str(tmp_path / "out")
    save_classifier(out, source, random_head(model_forms.WIDTH), DESCRIPTION)
    with pytest.raises(UserError) as info:
        to_tflite(out, (model_forms.SIZE, model_forms.SIZE))
    told = str(info.value)
    assert told == f"{out}: cannot be converted to TFLite: TFLite knows no MatrixDeterminant"


def test_logits_that_differ_are_refused(tmp_path, monkeypatch):
    classifier = save_small_classifier(tmp_path)
    monkeypatch.setattr(tflite, "_answers", lambda content, images: np.full((4, 3), np.nan))
    with pytest.raises(UserError, match="its logits differ by nan"):
        to_tflite(classifier.path, (model_forms.SIZE, model_forms.SIZE))
