"""What TensorFlow Hub's common API for image models asks for, one function a check.

Each check calls the model as it was published, on images from fixed seeds, and says what it saw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from transforms.errors import Message, explained
from transforms.examine.description import shape_text
from transforms.examine.pixel_range import see_range
from transforms.examine.probes import Candidate, probe_images
from transforms.models.pixels import model_input

CheckStatus = Literal["pass", "fail", "warn", "info", "not applicable"]

INPUT, OUTPUT = "float32 images", "float32 [B, N]"
BATCH, SIZES = "any batch size", "N same at any H, W"
DETERMINISTIC, DROPOUT, INDEPENDENT = "deterministic", "no output dropout", "batch-independent"
RANGE, CHANNELS, NOT_FINITE = "value range", "channel order", "NaN and infinity"
VARIABLES, TRAINING, OPS = "variables listed", "training accepted", "only computes"

BATCH_SIZES = (1, 2, 7, 32)
IMAGE_SIZES = ((160, 160), (224, 224), (331, 200))
_SAME = 1e-4  # distance of two vectors over the norm of the first


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the table: what was checked, how it ended, and what was seen."""

    name: str
    status: CheckStatus
    seen: Message


_Outcome = tuple[CheckStatus, str | Message]


@dataclasses.dataclass(frozen=True)
class _Rule:
    """A check, and the names of those without which it says nothing."""

    name: str
    run: Callable[[Candidate], _Outcome]
    calls_model: bool = True
    needs: tuple[str, ...] = ()


def check_all(subject: Candidate) -> tuple[Check, ...]:
    """Runs all checks, in the order of the table."""
    checks: list[Check] = []
    for rule in _RULES:
        checks.append(_apply(rule, subject, checks))
    return tuple(checks)


def _apply(rule: _Rule, subject: Candidate, before: list[Check]) -> Check:
    """Runs one check, unless an earlier one leaves nothing to see."""
    failed = [c.name for c in before if c.name in rule.needs and c.status == "fail"]
    if rule.calls_model and subject.vector_width is None:
        reason = (
            "the model gives no vectors for images"
            if subject.input_error is None
            else ("the model does not take the images")
        )
        return _check(rule, "not applicable", reason)
    if failed:
        return _check(rule, "not applicable", f"says nothing, as this fails: {failed[0]}")
    try:
        return _check(rule, *rule.run(subject))
    except Exception as error:  # noqa: BLE001 - a model raises anything
        return _check(rule, "fail", Message(explained(error)))


def _check(rule: _Rule, status: CheckStatus, seen: str | Message) -> Check:
    return Check(rule.name, status, seen if isinstance(seen, Message) else Message((seen,)))


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of each pair of vectors over the first's norm; infinite where not finite."""
    norms = np.maximum(np.linalg.norm(a, axis=1), 1e-12)
    distances = np.linalg.norm(a - b, axis=1) / norms
    return np.where(np.isfinite(distances), distances, np.inf)


def _check_ops(subject: Candidate) -> _Outcome:
    forbidden = ", ".join(subject.description.forbidden)
    if not forbidden:
        return "pass", "no op reads or writes files, uses the network or runs Python"
    return ("warn" if subject.source.trusted else "fail"), forbidden


def _check_input(subject: Candidate) -> _Outcome:
    if subject.input_error is not None:
        return "fail", subject.input_error.message
    assert subject.loaded is not None
    if subject.loaded.dtype != "float32":
        return "fail", f"takes {subject.loaded.dtype}; the images are converted to it"
    return "pass", f"takes float32 [B, {subject.height}, {subject.width}, 3]"


def _check_output(subject: Candidate) -> _Outcome:
    if subject.input_error is not None:
        return "not applicable", "the model does not take the images"
    if subject.output_error is not None:
        return "fail", subject.output_error.message
    declared = subject.output()
    if declared is not None and declared.dtype != "float32":
        return "fail", f"gives {declared.dtype}; it is converted"
    if declared is not None and declared.shape is not None and len(declared.shape) != 2:
        return "fail", f"gives {shape_text(declared.shape)}; vectors are made of it"
    return "pass", f"gives float32 [B, {subject.vector_width}]"


def _check_batch_sizes(subject: Candidate) -> _Outcome:
    assert subject.loaded is not None
    if subject.loaded.batch_size is not None:
        return "fail", f"takes exactly {subject.loaded.batch_size} images"
    for size in BATCH_SIZES:
        try:
            subject.answer(np.resize(subject.images, (size, *subject.images.shape[1:])))
        except Exception as error:  # noqa: BLE001 - a model raises anything
            return "fail", Message((f"fails on a batch of {size}: ", *explained(error)))
    return "pass", f"takes {', '.join(map(str, BATCH_SIZES))} images"


def _check_image_sizes(subject: Candidate) -> _Outcome:
    assert subject.loaded is not None
    fixed = subject.loaded.height, subject.loaded.width
    if None not in fixed:
        return "not applicable", "fixed at {}x{}".format(*fixed)
    seen = {}
    for height, width in IMAGE_SIZES:
        size = fixed[0] or height, fixed[1] or width
        text = "{}x{}".format(*size)
        try:
            seen[text] = subject.vectors(probe_images(*size)[:1]).shape[1]
        except Exception as error:  # noqa: BLE001 - a model raises anything
            return "fail", Message((f"fails on images of {text}: ", *explained(error)))
    if len(set(seen.values())) == 1:
        return "pass", f"N = {subject.vector_width} at {', '.join(seen)}"
    return "fail", "N changes: " + ", ".join(f"{n} at {size}" for size, n in seen.items())


def _check_deterministic(subject: Candidate) -> _Outcome:
    first, second = subject.vectors(subject.images), subject.vectors(subject.images)
    if np.array_equal(first, second, equal_nan=True):
        return "pass", "the same bits, when called twice"
    distance = distances(first, second).max()
    return ("pass" if distance <= 1e-6 else "fail"), f"two calls differ by {distance:.1e}"


def _check_dropout(subject: Candidate) -> _Outcome:
    """Looks for values that are exactly 0 in some answers to one image and far from it in others.

    The image fills a batch, so that a mask that is the same in each call shows as well.
    """
    same = np.repeat(subject.images[4:5], len(subject.images), axis=0)
    answers = np.concatenate([subject.vectors(same), subject.vectors(same)])
    largest = np.abs(answers).max(axis=0)
    is_dropped = (answers == 0) & (largest > 1e-3 * largest.max())
    if is_dropped.any():
        return "fail", f"{is_dropped.mean():.0%} of the values are 0 in some answers, not in others"
    return "pass", "no value is 0 in one answer and not in another to the same image"


def _check_independent(subject: Candidate) -> _Outcome:
    if subject.batch_size == 1:
        return "not applicable", "takes one image at a time"
    together = subject.vectors(subject.images)
    alone = np.concatenate([subject.vectors(image[None]) for image in subject.images])
    distance = distances(together, alone).max()
    seen = f"an image alone and among others: vectors differ by {distance:.1e} of their length"
    return ("pass" if distance <= _SAME else "fail"), seen


def _check_range(subject: Candidate) -> _Outcome:
    """Looks for a model that is made for [0, 255] and gets [0, 1]; see `pixel_range`."""
    if not subject.is_float:
        return "not applicable", "integers have one range"
    seen = see_range(subject.vectors, subject.images, subject.source, subject.first_ops())
    is_doubtful, told = seen.told(subject.source.value_range)
    return ("warn" if is_doubtful else "pass"), told


def _check_channels(subject: Candidate) -> _Outcome:
    images = subject.images
    distance = distances(subject.vectors(images), subject.vectors(images[..., ::-1])).mean()
    note = "; images are given as RGB" if distance > _SAME else ": the order does not matter"
    return "info", f"RGB and BGR differ by {distance:.2g} of the vectors' length{note}"


def _check_not_finite(subject: Candidate) -> _Outcome:
    if not subject.is_float:
        return "not applicable", "integers have no NaN"
    clean = subject.vectors(subject.images)
    seen = []
    for name, value in (("NaN", np.nan), ("infinity", np.inf)):
        images = subject.images
        images[1, 0, 0] = value
        answer = subject.vectors(images)
        others = np.arange(len(images)) != 1
        if distances(clean[others], answer[others]).max() > _SAME:
            return "fail", f"an image with {name} changes the vectors of the others in its batch"
        seen.append(f"{name} gives {'finite' if np.isfinite(answer[1]).all() else 'not finite'}")
    return "pass", f"the other images keep their vectors; {', '.join(seen)} values"


def _check_variables(subject: Candidate) -> _Outcome:
    description = subject.description
    if not description.is_callable:
        return "not applicable", "not a callable object"
    if description.variables:
        return "pass", f"{description.variables}, {description.trainable_variables or 0} trainable"
    if description.parameters:
        return "fail", "it has variables, but no list `variables`: it cannot be fine-tuned"
    return "pass", "none to list"


def _check_training(subject: Candidate) -> _Outcome:
    if not subject.description.takes_training:
        return "not applicable", "takes no `training`"
    import tensorflow as tf

    loaded, source = subject.loaded, subject.source
    assert loaded is not None
    images = np.resize(subject.images, (subject.batch_size or 8, *subject.images.shape[1:]))
    batch = model_input(tf.constant(images), tf.as_dtype(loaded.dtype), source)
    for training in (False, True):  # which may change moving averages: the last of the checks
        loaded.owner(batch, **{**dict(source.arguments), "training": training})
    return "pass", "runs with training=False and training=True"


_RULES = (
    _Rule(OPS, _check_ops, calls_model=False),
    _Rule(INPUT, _check_input, calls_model=False),
    _Rule(OUTPUT, _check_output, calls_model=False),
    _Rule(BATCH, _check_batch_sizes),
    _Rule(SIZES, _check_image_sizes),
    _Rule(DETERMINISTIC, _check_deterministic),
    _Rule(DROPOUT, _check_dropout),
    _Rule(INDEPENDENT, _check_independent, needs=(DETERMINISTIC,)),
    _Rule(RANGE, _check_range, needs=(DETERMINISTIC,)),
    _Rule(CHANNELS, _check_channels, needs=(DETERMINISTIC,)),
    _Rule(NOT_FINITE, _check_not_finite, needs=(DETERMINISTIC, INDEPENDENT)),
    _Rule(VARIABLES, _check_variables, calls_model=False),
    _Rule(TRAINING, _check_training),
)
