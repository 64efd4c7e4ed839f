"""A task that frozen vectors cannot do: red or blue, seen by an extractor of grey values.

Run as a module it fine-tunes that extractor, so that a test can kill it.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import PIL.Image

from consumers.head import Dense, Head
from consumers.tuning.fine_tuning import Tuned, fine_tune
from consumers.tuning.images import LabelledImage
from consumers.tuning.options import Augmentation, TuningOptions
from transforms.images.spec import ImageSpec
from transforms.inputs.listing import list_images
from transforms.models.source import ModelSource
from transforms.models.trainable import load_trainable

COLOUR_SIZE = 12
GREY_FEATURES = 6
PENALTY = 0.03


def save_grey_extractor(directory: pathlib.Path) -> pathlib.Path:
    """Saves a Reusable SavedModel: the three channels have the same weights, until it is trained.

    While training it keeps a moving average, which is no trainable variable. Its regularisation
    loss is `PENALTY` times the sum of its squared weights.
    """
    import tensorflow as tf

    class Grey(tf.train.Checkpoint):
        def __init__(self):
            super().__init__()
            row = np.linspace(-1, 1, GREY_FEATURES, dtype=np.float32)
            self.weights = tf.Variable(np.tile(row, (3, 1)))
            self.average = tf.Variable(tf.zeros(GREY_FEATURES), trainable=False)
            self.variables = [self.weights, self.average]
            self.trainable_variables = [self.weights]
            self.regularization_losses = [self.penalty]

        @tf.function(input_signature=[])
        def penalty(self):
            return PENALTY * tf.reduce_sum(tf.square(self.weights))

        @tf.function
        def __call__(self, images, training=False, gain=1.0):
            vectors = tf.reduce_mean(tf.tanh(gain * images @ self.weights), [1, 2])
            if training:
                self.average.assign(0.9 * self.average + 0.1 * tf.reduce_mean(vectors, 0))
            return vectors

    model = Grey()
    images = tf.TensorSpec([None, COLOUR_SIZE, COLOUR_SIZE, 3], tf.float32)
    for training in (True, False):
        model.__call__.get_concrete_function(images, training=training)
        scalar = tf.TensorSpec([], tf.float32)
        model.__call__.get_concrete_function(images, training=training, gain=scalar)
    tf.saved_model.save(model, str(directory))
    return directory


def write_colours(directory: pathlib.Path, count: int, size: int = COLOUR_SIZE) -> pathlib.Path:
    """Writes `count` noisy PNGs each into `blue/` and `red/`, of the same mean grey."""
    random = np.random.default_rng(count)
    for name, colour in (("blue", (0.3, 0.5, 0.7)), ("red", (0.7, 0.5, 0.3))):
        (directory / name).mkdir(parents=True)
        for number in range(count):
            noise = random.normal(0, 0.15, (size, size, 1)) + random.normal(0, 0.05, 3)
            pixels = np.clip((colour + noise - noise.mean()) * 255, 0, 255).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(directory / name / f"{number:03d}.png")
    return directory


def colours_in(directory: pathlib.Path) -> list[LabelledImage]:
    """The images with their classes: 0 is blue, 1 is red."""
    refs = list_images([str(directory)], label_from_parent=True).refs
    return [LabelledImage(ref, ["blue", "red"].index(ref.label or "")) for ref in refs]


def small_head(**costs: float) -> Head:
    """A head with small random weights, from the grey extractor's vectors to two classes."""
    kernel = np.random.default_rng(1).normal(0, 0.3, (GREY_FEATURES, 2)).astype(np.float32)
    return Head((Dense(kernel, np.zeros(2, np.float32)),), **costs)


COLOUR_SPEC = ImageSpec(COLOUR_SIZE, COLOUR_SIZE)
KILLED_OPTIONS = TuningOptions(
    epochs=3,
    batch_size=4,
    learning_rate=0.3,
    augmentation=Augmentation(),
    checkpoint_steps=2,
    patience=None,
)


def tune_colours(images: pathlib.Path, model: pathlib.Path, checkpoints: pathlib.Path) -> Tuned:
    """Fine-tunes as it is killed and done again: with augmentation and dropout."""
    labelled = colours_in(images)
    return fine_tune(
        load_trainable(ModelSource(str(model))),
        small_head(dropout_rate=0.3, l2=1e-3),
        labelled[::2],
        labelled[1::2],
        COLOUR_SPEC,
        KILLED_OPTIONS,
        str(checkpoints),
        None,
        print,
    )


def main(model: str, images: str, *runs: str) -> None:
    """Fine-tunes once for each two of `runs`: where its checkpoints lie, and then its weights."""
    for checkpoints, weights in zip(runs[::2], runs[1::2], strict=True):
        tuned = tune_colours(pathlib.Path(images), pathlib.Path(model), pathlib.Path(checkpoints))
        values = [variable.numpy() for variable in tuned.extractor.variables]
        values += [array for layer in tuned.head.layers for array in (layer.kernel, layer.bias)]
        np.savez(weights, *values, logits=tuned.validation.logits)


if __name__ == "__main__":
    main(*sys.argv[1:])
