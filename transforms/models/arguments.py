"""What a model's function takes besides the images: what is given, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transforms.errors import Parameter, UserError
from transforms.models.source import ModelSource

_IMAGES = ("images", "image", "inputs", "input")


def image_input(source: ModelSource, called: str, inputs: Mapping[str, Any]) -> str:
    """Which of a function's inputs takes the images.

    Args:
      source: the model.
      called: what is called, in words; empty where it is the model.
      inputs: by name, those that no argument of `source` gives, as TensorSpecs.

    Raises:
      UserError: there are others, which nobody gives; it says what is taken, and what is missing.
    """
    if len(inputs) == 1:
        return next(iter(inputs))
    like_images = [name for name, spec in inputs.items() if spec.shape.rank == 4]
    named = [name for name in _IMAGES if name in inputs]
    images = (named or (like_images if len(like_images) == 1 else []) or [""])[0]
    refuse_missing(source, called, inputs, images)
    return images


def refuse_missing(
    source: ModelSource, called: str, inputs: Mapping[str, Any], images: str
) -> None:
    """Raises a UserError that names the inputs besides `images`, which nobody gives.

    An empty `images` means that none is known for the images'.
    """
    missing = [name for name in inputs if name != images]
    listed = ", ".join(f"{name} {spec.dtype.name} {_shape(spec)}" for name, spec in inputs.items())
    takes = f"{called} takes {listed}".lstrip()
    verb = "is" if len(missing) == 1 else "are"
    lacks = f"only images are given, {', '.join(missing)} {verb} missing"
    if images and all(inputs[name].shape.rank == 0 for name in missing):
        raise UserError(
            f"{takes}; {lacks}: give it with ", Parameter("arguments"), subject=source.subject
        )
    if not images:
        lacks = "only one batch of images [B, H, W, 3] is given"
    raise UserError(
        f"{takes}; {lacks}: export a function of the images alone", subject=source.subject
    )


def refuse_unknown(source: ModelSource, called: str, names: Sequence[str]) -> None:
    """Raises a UserError if `source` gives arguments that a function does not take.

    Args:
      source: the model.
      called: what is called, in words.
      names: what it takes.
    """
    unknown = [name for name, _ in source.arguments if name not in names]
    if unknown:
        raise UserError(
            f"{called} takes no {', '.join(unknown)}; it takes "
            f"{', '.join(names) or 'no arguments besides the images'}",
            subject=Parameter("arguments"),
        )


def _shape(spec: Any) -> str:
    if spec.shape.rank is None:
        return "of any shape"
    sizes = ["any" if size is None else str(size) for size in spec.shape]
    return f"[{', '.join(['B', *sizes[1:]] if sizes[:1] == ['any'] else sizes)}]"
