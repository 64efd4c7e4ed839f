"""Fine-tunes a published model and its head from image files; killed, it goes on where it was.

What a step does follows from the options, the images and the step's number alone: the order of the
images, what is augmented and dropped out are drawn from (seed, epoch) or (seed, step). So a run
that was killed and started again gives the weights of one that was not: exactly, where TensorFlow's
sums are (one thread), and unless the model itself draws random numbers while training.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from consumers.head import Head
from consumers.tuning import network as networks
from consumers.tuning.augmentation import affine_maps
from consumers.tuning.checkpoints import CheckpointFile, EpochScore, TuningState
from consumers.tuning.fitting import fitting_head, refuse_unfit
from consumers.tuning.identity import what_decides
from consumers.tuning.images import LabelledBatch, LabelledImage, epoch_order, read_labelled
from consumers.tuning.options import TuningOptions
from consumers.tuning.progress import StepProgress, score_line
from consumers.tuning.schedule import learning_rate_at
from consumers.tuning.scoring import Validation, validated
from consumers.tuning.summaries import Summaries
from transforms.errors import ErrorRow, Parameter, UserError
from transforms.images.spec import ImageSpec
from transforms.models.trainable import TrainableModel
from transforms.storage import faults


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tuned model, as it was after its best epoch.

    Attributes:
      extractor: the model that was given; its variables have the new values.
      head: from its vectors to logits.
      scores: of each epoch, the first before training.
      validation: the answers of extractor and head.
      skipped: by id, what is wrong with the images that could not be used.
    """

    extractor: TrainableModel
    head: Head
    scores: tuple[EpochScore, ...]
    validation: Validation
    skipped: dict[str, str]


def fine_tune(
    model: TrainableModel,
    head: Head | None,
    training: Sequence[LabelledImage],
    validation: Sequence[LabelledImage],
    image: ImageSpec,
    options: TuningOptions,
    checkpoints: str,
    summaries: str | None,
    say: Callable[[str], None],
    head_of: str = "",
) -> Tuned:
    """Trains all of a model and its head from images; the best epoch's weights are kept.

    The loss is cross entropy, and the model's regularisation losses, and those of the head's
    kernels. The best epoch is that with the lowest validation loss; it may be the start, so the
    result is never worse by that than what was given.

    Args:
      model: its variables are changed.
      head: where training starts; its dropout rate and regularisation are kept. None: zeros.
      training, validation: image files, each with an id of its own.
      image: size and limits, as in the pipeline.
      options: how to train.
      checkpoints: a directory; the same call goes on from what it finds there.
      summaries: a directory for TensorBoard's logs.
      say: is given lines for the person who waits.
      head_of: names what the head was made of; a head of the same name is taken for the same when
        a killed call goes on. Empty: its weights are compared.

    Raises:
      UserError: there are no images, or none can be read; image size, model and head do not fit
        each other; the loss is no number any more; there is not enough memory for a batch; the
        checkpoint is damaged.
    """
    run = _Training(model, head, training, validation, image, options, checkpoints, say, head_of)
    return run.run(summaries)


class _Training:
    """One run: the network, what was reached, and the weights of the best epoch."""

    def __init__(
        self,
        model: TrainableModel,
        head: Head | None,
        training: Sequence[LabelledImage],
        validation: Sequence[LabelledImage],
        image: ImageSpec,
        options: TuningOptions,
        checkpoints: str,
        say: Callable[[str], None],
        head_of: str,
    ):
        import tensorflow as tf

        refuse_unfit(model, training, validation, image)
        self._model, self._options, self._image, self._say = model, options, image, say
        self._training, self._validation = training, validation
        self._size = (image.height, image.width)
        self._is_multi_label = isinstance(training[0].target, tuple)
        head = fitting_head(head, model, (*training, *validation), image)
        self._network = networks.Network(model, head)
        variables = self._network.trainable_variables
        self._velocities = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self._per_epoch = math.ceil(len(training) / options.batch_size)
        self._steps = options.epochs * self._per_epoch
        self._step = networks.training_step(
            self._network, self._velocities, options, self._is_multi_label, self._size
        )
        self._logits = networks.evaluation(self._network, self._size)
        self._state = TuningState()
        self._best = [variable.numpy() for variable in self._network.variables]
        start = self._best[: -2 * len(head.layers)] if head_of else self._best
        decides = what_decides(model, head, training, validation, image, options, start, head_of)
        self._file = CheckpointFile(checkpoints, decides)
        self._progress = StepProgress(say, self._steps, 0)

    def run(self, summaries: str | None) -> Tuned:
        """Trains to the end, from wherever it was."""
        import tensorflow as tf

        log = Summaries(summaries)
        try:
            self._resume()
            while not self._is_over():
                self._train_epoch(log)
                self._score_epoch(log)
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            height, width = self._size
            raise UserError(
                f"not enough memory for so many images of {height}×{width}; give a smaller one",
                subject=Parameter("batch_size", self._options.batch_size),
            ) from error
        finally:
            log.close()
        for variable, values in zip(self._network.variables, self._best, strict=True):
            variable.assign(values)
        best = self._state.best
        self._say(
            f"the best epoch is {best.epoch} of {len(self._state.scores) - 1}: validation loss "
            f"{best.validation_loss:.4f}, accuracy {best.validation_accuracy:.1%}"
        )
        answers = self._validated()
        head = self._network.head()
        return Tuned(self._model, head, self._state.scores, answers, dict(self._state.skipped))

    def _is_over(self) -> bool:
        scores, patience = self._state.scores, self._options.patience
        if not scores:
            return False
        waited = scores[-1].epoch - self._state.best.epoch
        return (self._state.step >= self._steps and len(scores) == self._options.epochs + 1) or (
            patience is not None and waited >= max(1, patience)
        )

    def _resume(self) -> None:
        for name in self._file.of_other_runs():
            self._say(f"{name}: the checkpoint of another run, left as it is")
        self._file.remove_unfinished()
        found = self._file.load(self._arrays())
        if found is None:
            return
        self._state, arrays = found
        variables = (*self._network.variables, *self._velocities)
        for variable, values in zip(variables, arrays, strict=False):
            variable.assign(values)
        self._best = arrays[len(variables) :]
        self._progress = StepProgress(self._say, self._steps, self._state.step)
        self._say(f"going on after step {self._state.step} of {self._steps}")

    def _arrays(self) -> list[np.ndarray]:
        variables = (*self._network.variables, *self._velocities)
        return [*(variable.numpy() for variable in variables), *self._best]

    def _save(self) -> None:
        self._file.save(self._state, self._arrays())

    def _train_epoch(self, log: Summaries) -> None:
        """The steps that are left of the epoch; none before the first score."""
        if not self._state.scores:
            return
        epoch = len(self._state.scores)
        size = self._options.batch_size
        order = epoch_order(len(self._training), self._options.seed, epoch)
        order = order[(self._state.step - (epoch - 1) * self._per_epoch) * size :]
        for batch in self._read(self._training, order):
            if batch.rows:
                self._train_on(batch, epoch, log)
            step = self._state.step + 1
            self._state = dataclasses.replace(self._state, step=step)
            if step % self._options.checkpoint_steps == 0 and step % self._per_epoch:
                self._save()
            faults.reached("tuning_step")
            state = self._state
            loss = (state.loss_sum - state.regularization_sum) / max(1, state.loss_images)
            where = f"epoch {epoch}: step {step} of {self._steps}, loss {loss:.4f}"
            self._progress.reached_step(step, where)

    def _train_on(self, batch: LabelledBatch, epoch: int, log: Summaries) -> None:
        import tensorflow as tf

        options, step = self._options, self._state.step
        rate = learning_rate_at(step, self._steps, options.learning_rate, options.warmup)
        if options.augmentation:
            maps = affine_maps(
                options.augmentation, batch.positions, *self._size, options.seed, step
            )
        else:
            maps = np.zeros((len(batch.rows), 8), np.float32)
        seed = np.random.default_rng([options.seed, step]).integers(0, 2**31, 2, np.int32)
        loss, penalty = self._step(
            tf.image.convert_image_dtype(batch.images, tf.float32),
            maps, batch.targets, tf.constant(rate, tf.float32), seed,
        )  # fmt: skip
        loss, penalty = float(loss), float(penalty)
        if not math.isfinite(loss):
            raise self._no_number(f"step {step + 1} (epoch {epoch})", loss)
        log.write(step + 1, {"loss": loss, "regularization": penalty, "learning_rate": rate})
        state, count = self._state, len(batch.rows)
        self._state = dataclasses.replace(
            state,
            loss_sum=state.loss_sum + count * loss,
            regularization_sum=state.regularization_sum + count * penalty,
            loss_images=state.loss_images + count,
        )

    def _no_number(self, where: str, loss: float) -> UserError:
        return UserError(
            f"the loss is {loss} at {where}; give a lower one",
            subject=Parameter("learning_rate", self._options.learning_rate),
        )

    def _read(self, images: Sequence[LabelledImage], order: np.ndarray) -> Iterator[LabelledBatch]:
        size = self._options.batch_size
        for batch in read_labelled(images, order, self._network.classes, self._image, size):
            self._skip(batch.skipped)
            yield batch

    def _skip(self, errors: Sequence[ErrorRow]) -> None:
        new = {row.id: row.message for row in errors if row.id not in self._state.skipped}
        for name, message in new.items():
            self._say(f"{name}: skipped: {message}")
        if new:
            skipped = {**self._state.skipped, **new}
            self._state = dataclasses.replace(self._state, skipped=skipped)

    def _score_epoch(self, log: Summaries) -> None:
        state = self._state
        epoch = len(state.scores)
        if epoch and not state.loss_images:
            raise UserError(
                f"none of the {len(self._training)} images can be used",
                subject=Parameter("training"),
            )
        answers = self._validated()
        loss = answers.loss()
        if not math.isfinite(loss):
            raise self._no_number(f"the end of epoch {epoch}", loss)
        score = EpochScore(
            epoch,
            state.loss_sum / state.loss_images if epoch else None,
            state.regularization_sum / state.loss_images if epoch else None,
            loss,
            answers.accuracy(),
        )
        self._state = TuningState(
            state.step, scores=(*state.scores, score), skipped=self._state.skipped
        )
        if self._state.best is score:
            self._best = [variable.numpy() for variable in self._network.variables]
        self._save()
        accuracy = score.validation_accuracy
        log.write(state.step, {"validation_loss": loss, "validation_accuracy": accuracy})
        log.flush()
        self._say(score_line(score, self._options.epochs) + self._progress.left(state.step))

    def _validated(self) -> Validation:
        images = self._validation
        batches = self._read(images, np.arange(len(images)))
        found = validated(self._logits, batches, self._is_multi_label)
        if found is None:
            raise UserError(
                f"none of the {len(images)} images can be used", subject=Parameter("validation")
            )
        return found
