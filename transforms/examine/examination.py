"""Whether a model does what TensorFlow Hub asks of image models, and where it does not.

https://www.tensorflow.org/hub/common_saved_model_apis/images: float32 [B, H, W, 3] in [0, 1] in,
float32 [B, N] out. `checks` are what is asked; here a model becomes their subject.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from transforms.errors import Parameter, UserError, one_line
from transforms.examine.checks import Check, check_all
from transforms.examine.description import Description, describe
from transforms.examine.guess import classifier_hint
from transforms.examine.probes import if_about_model, probe
from transforms.models import loading, trust
from transforms.models.keras_file import refuse_missing_classes
from transforms.models.source import ModelSource, check_exists


@dataclasses.dataclass(frozen=True)
class Examination:
    """What a model is, and how it does.

    Attributes:
      description: what it is.
      loaded: how it is called; None: it cannot be, and a check says why.
      width: N of its vectors [B, N]; None: it gives none.
      image_size: height and width of the probe images.
      batch_size: the only one that it takes; None: any.
      checks: the table.
      classifier_hint: why it looks like a classifier; None: it does not.
      remedy: the parameter that would make vectors of what it gives; None: none would, or none
        need.
    """

    description: Description
    loaded: loading.LoadedModel | None
    width: int | None
    image_size: tuple[int, int]
    batch_size: int | None
    checks: tuple[Check, ...]
    remedy: Parameter | None = None
    classifier_hint: str | None = None

    @property
    def is_conformant(self) -> bool:
        """Whether no check fails; a warning is not a failure."""
        return all(check.status != "fail" for check in self.checks)


def examine(source: ModelSource, image_size: tuple[int, int] | None = None) -> Examination:
    """Loads a model, describes it, and checks it.

    Args:
      source: the model.
      image_size: height and width in pixels of the probe images where the model leaves them free.

    Raises:
      UserError: there is no model, it is damaged, or a parameter does not fit it.
    """
    check_exists(source)
    path = source.local_path()
    if source.is_keras_file:
        report = trust.check_keras_file(path)
    else:
        report = trust.check_program(path, source.signature, source.tags, source.task)
    loaded, owner, refusal = None, None, None
    if report.forbidden and not source.trusted:
        refusal = _refusal_of_ops(source)
    else:
        try:
            loaded = loading.load_model(source)
            owner = loaded.owner
        except UserError as error:
            owner, refusal = _owner_although(error, source), if_about_model(error)
    try:
        description = describe(source, owner, report)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {one_line(error)}", subject=source.subject) from error
    subject = probe(source, description, loaded, refusal, image_size)
    checks = check_all(subject)
    size = subject.height, subject.width
    return Examination(
        description,
        loaded,
        subject.vector_width,
        size,
        subject.batch_size,
        checks,
        subject.remedy(),
        classifier_hint(subject),
    )


def _refusal_of_ops(source: ModelSource) -> UserError:
    """Why a model that reaches outside itself is not loaded."""
    try:
        if source.is_keras_file:
            refuse_missing_classes(source)
    except UserError as error:
        return error
    return UserError(
        "not loaded, because of its ops: if you trust its publisher, add ",
        Parameter("trusted", True),
        subject=source.subject,
    )


def _owner_although(error: UserError, source: ModelSource) -> Any:
    """The model as TensorFlow loads it although there is no function to call in it."""
    import tensorflow as tf

    if error.__cause__ is not None:  # the files cannot be loaded at all
        raise error
    if source.is_keras_file:
        return None
    try:
        return tf.saved_model.load(source.local_path(), tags=source.tags and list(source.tags))
    except Exception:  # noqa: BLE001 - a model raises anything; the first error says what to do
        raise error from None
