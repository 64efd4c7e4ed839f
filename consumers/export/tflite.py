"""A classifier as a TFLite file, and how far its logits are from TensorFlow's."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from transforms.errors import UserError, one_line
from transforms.machine import native_stderr

_IMAGES = 4
# Of the largest logit: what another order of additions leaves, and more than a wrong model does.
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class TfliteModel:
    """A converted classifier.

    Attributes:
      content: the file: float32 [1, H, W, 3] in [0, 1] to logits, float32 [1, C].
      max_difference: the largest difference of a logit from TensorFlow's, on random images.
    """

    content: bytes
    max_difference: float


def to_tflite(directory: str, image_size: tuple[int, int]) -> TfliteModel:
    """Converts a classifier, and compares it with what it was made of.

    Args:
      directory: as `save_classifier` has written it.
      image_size: height and width in pixels, which a TFLite file fixes.

    Raises:
      UserError: it has an op that TFLite does not know, which is named; or the logits differ by
        more than a thousandth of the largest.
    """
    import tensorflow as tf

    model = tf.saved_model.load(directory)
    function = tf.function(lambda images: model(images, training=False), autograph=False)
    spec = tf.TensorSpec([1, *image_size, 3], tf.float32, name="images")
    traced = function.get_concrete_function(spec)
    failed: Exception | None = None
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], model)
    with _quiet():
        try:
            content = bytes(converter.convert())
        except Exception as error:  # noqa: BLE001 - what MLIR raises has no public name
            failed = error
    if failed is not None:
        raise _unconverted(directory, failed) from failed
    images = np.random.default_rng(0).random((_IMAGES, 1, *image_size, 3), dtype=np.float32)
    wanted = np.concatenate([traced(tf.constant(image)).numpy() for image in images])
    difference = np.abs(_answers(content, images) - wanted).max()
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(wanted).max())):
        raise UserError(
            f"as TFLite its logits differ by {difference:.2g} from TensorFlow's", subject=directory
        )
    return TfliteModel(content, float(difference))


def _unconverted(directory: str, error: Exception) -> UserError:
    ops = sorted(set(re.findall(r"\btf\.([A-Z]\w*)", str(error))))
    what = f"TFLite knows no {', '.join(ops)}" if ops else one_line(error)
    return UserError(f"cannot be converted to TFLite: {what}", subject=directory)


def _answers(content: bytes, images: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    with _quiet():
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        [given], [answered] = interpreter.get_input_details(), interpreter.get_output_details()
        answers = []
        for image in images:
            interpreter.set_tensor(given["index"], image)
            interpreter.invoke()
            answers.append(interpreter.get_tensor(answered["index"]))
    return np.concatenate(answers)


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Without what the converter says of each step, and the interpreter of its future."""
    with native_stderr.shown_if_it_fails(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
