"""A head with a hidden layer, by gradient descent in Keras, where straight lines are not enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from consumers.head import Dense, Head
from consumers.labelled import Labelled
from consumers.training.cross_validation import answers_of, askable_folds
from consumers.training.logistic import ClassWeight, image_weights
from consumers.training.streaming import Standardisation
from transforms.errors import Parameter, UserError
from transforms.machine.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import keras

_PATIENCE = 5
_VALIDATION_PARTS = 10
_ROWS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class Descent:
    """How a network is trained; as in `HeadOptions`."""

    class_weight: ClassWeight
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float | None
    dropout_rate: float
    label_smoothing: float
    hidden_units: int
    l1: float
    l2: float


@dataclasses.dataclass(frozen=True, eq=False)
class MlpFit:
    """What was trained.

    Attributes:
      head: for vectors as they are; two layers, or one without hidden units.
      best_epoch: counted from 1, the one that is kept.
      validation_loss: log loss, smoothing and penalties then, on the images that end it; None where
        there were too few groups for such images, and the last epoch is kept.
      out_of_fold: float32 [n, C], as `LogisticFit` has it.
    """

    head: Head
    best_epoch: int
    validation_loss: float | None
    out_of_fold: np.ndarray


def fit_mlp(
    training: Labelled, descent: Descent, fold_count: int, progress: Callable[[str], None]
) -> MlpFit:
    """Trains on nine tenths until the log loss of the last tenth has not fallen for five epochs.

    The tenth is stratified, and groups stay together. Once more for each fold, without its images.

    Args:
      training: float32 vectors [n, N], perhaps a memory map; read batch by batch.
      descent: see there.
      fold_count: for the out-of-fold probabilities; below 2, or of one group, there are none.
      progress: is told what was found, a line at a time.

    Raises:
      UserError: the weights became infinite with this learning rate.
    """
    vectors, count = training.vectors, len(training.ids)
    scale = Standardisation.of(vectors)
    out_of_fold = np.full((count, len(training.classes)), np.nan, np.float32)
    for part in askable_folds(training, fold_count, descent.seed):
        layers, epoch, loss = _trained(training, part.learnt, scale, descent)
        progress(f"fold {part.number} of {fold_count}: {_told(epoch, loss)}")
        logits = _logits(layers, vectors, part.asked, scale)
        out_of_fold[part.asked] = answers_of(logits, training.is_multi_label)
    layers, epoch, loss = _trained(training, np.arange(count), scale, descent)
    progress(f"all folds: {_told(epoch, loss)}")
    head = Head(layers, descent.dropout_rate, descent.l1, descent.l2)
    return MlpFit(head.on_standardised(scale.mean, scale.deviation), epoch, loss, out_of_fold)


def _told(epoch: int, loss: float | None) -> str:
    if loss is None:
        return f"{epoch} epochs, all of them, as there are too few groups to watch some"
    return f"log loss {loss:.4f} after {epoch} epochs"


def _watched(training: Labelled, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to learn from and those whose loss ends it, which may be none.

    No class is watched that is not learnt.
    """
    own = np.arange(len(rows)) if training.groups is None else training.groups[rows]
    no_vectors = np.empty((len(rows), 0), np.float32)
    images = Labelled(training.ids[rows], no_vectors, training.targets[rows], training.classes, own)
    for part in askable_folds(images, _VALIDATION_PARTS, seed):
        unknown = np.delete(own, np.concatenate([part.learnt, part.asked]))
        watched = part.asked[~np.isin(own[part.asked], unknown)]
        if len(watched):
            return np.delete(rows, watched), rows[watched]
    return rows, rows[:0]


def _trained(
    training: Labelled, rows: np.ndarray, scale: Standardisation, descent: Descent
) -> tuple[tuple[Dense, ...], int, float | None]:
    """The layers on standardised vectors, the epoch that they are of, and its validation loss."""
    import_tensorflow()
    import keras

    learnt, watched = _watched(training, rows, descent.seed + 1)
    model = _network(training.vectors.shape[1], len(training.classes), descent)
    optimizer: Any = keras.optimizers.Adam(descent.learning_rate)
    if descent.momentum is not None:
        optimizer = keras.optimizers.SGD(descent.learning_rate, descent.momentum, nesterov=True)
    loss: Any = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=descent.label_smoothing
    )
    if training.is_multi_label:
        loss = _sum_of_sigmoids(descent.label_smoothing)
    model.compile(optimizer, loss, jit_compile=False)
    callbacks: list[Any] = [keras.callbacks.TerminateOnNaN()]
    validation = None
    if len(watched):
        stop = keras.callbacks.EarlyStopping(patience=_PATIENCE, restore_best_weights=True)
        callbacks.append(stop)
        validation = _batches(training, watched, scale, descent, 4 * descent.batch_size, False)
    history = model.fit(
        _batches(training, learnt, scale, descent, descent.batch_size, is_shuffled=True),
        validation_data=validation,
        epochs=descent.epochs,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    ).history
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    layers = tuple(Dense(*(np.asarray(weight) for weight in each.get_weights())) for each in dense)
    losses = history["val_loss" if len(watched) else "loss"]
    is_finite = all(np.isfinite(x).all() for layer in layers for x in (layer.kernel, layer.bias))
    if not is_finite or not np.isfinite(losses).any():
        raise UserError(
            "the network's weights grow without end with it; give a lower one, such as a tenth",
            subject=Parameter("learning_rate", descent.learning_rate),
        )
    if not len(watched):
        return layers, len(losses), None
    best = int(np.nanargmin(losses))
    return layers, best + 1, float(losses[best])


def _network(width: int, classes: int, descent: Descent) -> keras.Model:
    import keras

    penalty = keras.regularizers.L1L2(descent.l1, descent.l2)

    def dense(units: int, seed: int, activation: str | None = None) -> Any:
        first = keras.initializers.GlorotUniform(seed)
        return keras.layers.Dense(units, activation, True, first, kernel_regularizer=penalty)

    layers = [keras.layers.Input((width,))]
    if descent.hidden_units:
        layers.append(dense(descent.hidden_units, descent.seed, "relu"))
    layers.append(keras.layers.Dropout(descent.dropout_rate, seed=descent.seed + 1))
    layers.append(dense(classes, descent.seed + 2))
    return keras.Sequential(layers)


def _sum_of_sigmoids(label_smoothing: float) -> Callable[[Any, Any], Any]:
    """Log losses of yes and no, added over the classes; the targets carry weights beside them."""
    import keras

    def loss(truth: Any, logits: Any) -> Any:
        targets, weights = keras.ops.split(truth, 2, axis=-1)
        targets = targets * (1 - label_smoothing) + label_smoothing / 2
        losses = keras.ops.softplus(logits) - targets * logits
        return keras.ops.sum(losses * weights, axis=-1)

    return loss


def _batches(
    training: Labelled,
    rows: np.ndarray,
    scale: Standardisation,
    descent: Descent,
    size: int,
    is_shuffled: bool,
) -> keras.utils.PyDataset:
    """Batches of standardised vectors, targets and weights; in another order each epoch."""
    import keras

    classes = len(training.classes)
    weights = image_weights(training.targets[rows], classes, descent.class_weight)

    class Batches(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__()
            self._random = np.random.default_rng(descent.seed)
            self._order = np.arange(len(rows))
            self._shuffle()

        def __len__(self) -> int:
            return -(-len(rows) // size)

        def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
            places = np.sort(self._order[number * size : (number + 1) * size])
            images = rows[places]
            vectors = (training.vectors[images] - scale.mean) / scale.deviation
            targets = training.targets[images]
            if training.is_multi_label:
                truth = np.concatenate([targets.astype(np.float32), weights[places]], axis=1)
                return vectors, truth
            return vectors, keras.utils.to_categorical(targets, classes), weights[places]

        def on_epoch_end(self) -> None:
            self._shuffle()

        def _shuffle(self) -> None:
            if is_shuffled:
                self._order = self._random.permutation(len(rows))

    return Batches()


def _logits(
    layers: tuple[Dense, ...], vectors: np.ndarray, rows: np.ndarray, scale: Standardisation
) -> np.ndarray:
    head = Head(layers).on_standardised(scale.mean, scale.deviation)
    blocks = np.array_split(rows, max(1, len(rows) // _ROWS_AT_ONCE))
    return np.concatenate([head.logits(vectors[block]) for block in blocks])
