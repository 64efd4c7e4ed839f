"""The options that say which model and how to call it, shared by the program's commands."""

from __future__ import annotations

import json
import re
from typing import Any

from pipeline.options.values import ModelOptions
from transforms.errors import UserError
from transforms.models import builtin, staging
from transforms.models.source import UNIT_RANGE, ModelSource, ValueRange, range_text

_VALUE_RANGES: dict[str, ValueRange] = {
    range_text(value_range): value_range for value_range in (UNIT_RANGE, (-1.0, 1.0), (0.0, 255.0))
}


def add_run_arguments(group: Any) -> None:
    """Adds those that only run has."""
    group.add_argument(
        "--model",
        default=builtin.NAME,
        metavar="HANDLE",
        help="directory, .tar.gz or .keras file, gs:// s3:// http(s):// or TF Hub URL, or Kaggle "
        "handle; %(default)s is built in (default: %(default)s)",
    )
    group.add_argument(
        "--accept_model",
        action="store_true",
        help="run a model although it answers the same images differently when called again or "
        "in another batch (default: it is refused)",
    )


def add_arguments(group: Any) -> None:
    """Adds the options but for the model itself, which is `--model` or a positional argument."""
    group.add_argument(
        "--model_sha256", metavar="HEX", help="the only digest of the model that is accepted"
    )
    group.add_argument(
        "--trust_model",
        action="store_true",
        help="accept a model with what is not known to be harmless: ops that reach files or the "
        "network, run Python, or are not those of image models",
    )
    group.add_argument(
        "--private_redirects",
        action="store_true",
        help="let the server of a model's URL redirect from a public address to one of this "
        "machine, its link or a private network",
    )
    group.add_argument(
        "--signature",
        metavar="NAME",
        help="which signature to call (default: __call__, image_TASK, serving_default, default)",
    )
    group.add_argument(
        "--tags",
        metavar="A,B",
        help="which of several graphs to load (default: that for serving, or the untagged one)",
    )
    group.add_argument(
        "--output_key",
        metavar="NAME",
        help="which of several outputs to store (default: the only one, or the one named default)",
    )
    group.add_argument(
        "--model_args",
        metavar="JSON",
        help="hyper-parameters to call the model with, as a JSON object",
    )
    group.add_argument(
        "--pool",
        choices=["mean", "max"],
        help="how a feature map [B, H, W, C] becomes a vector [B, C] (default: it is refused)",
    )
    group.add_argument(
        "--task",
        choices=["feature_vector", "classification"],
        default="feature_vector",
        help="what the model gives (default: %(default)s)",
    )
    group.add_argument(
        "--image_size",
        metavar="HxW",
        help="height and width of the model's input in pixels (default: what the model fixes)",
    )
    group.add_argument(
        "--value_range",
        choices=[*_VALUE_RANGES],
        default=range_text(UNIT_RANGE),
        help="what a black and a white pixel are in the model's input: 0,255 for a Keras model "
        "with a Rescaling layer (default: %(default)s, as TensorFlow Hub's API has it)",
    )
    group.add_argument(
        "--model_layout",
        choices=["NHWC", "NCHW"],
        default="NHWC",
        help="NCHW: the model takes [B, 3, H, W] (default: %(default)s)",
    )


def model_options(options: Any) -> ModelOptions:
    """The model and how it is called, as the parsed options of a command say it.

    Raises:
      UserError: an option has an unusable value.
    """
    return ModelOptions(
        handle=options.model,
        sha256=options.model_sha256,
        trusted=options.trust_model,
        task=options.task,
        signature=options.signature,
        tags=tags(options),
        output_key=options.output_key,
        pool=options.pool,
        arguments=arguments(options),
        value_range=_VALUE_RANGES[options.value_range],
        layout=options.model_layout,
        private_redirects=options.private_redirects,
    )


def stage_model(model: ModelOptions) -> ModelSource:
    """The model, staged on this machine.

    Raises:
      UserError: it cannot be had.
    """
    path, sha256 = None, None
    if model.handle != builtin.NAME:
        redirects = model.private_redirects
        staged = staging.staged(model.handle, model.sha256, private_redirects=redirects)
        path, sha256 = staged.path, staged.sha256
    return ModelSource(
        name=model.handle,
        task=model.task,
        path=path,
        signature=model.signature,
        tags=model.tags,
        output_key=model.output_key,
        pool=model.pool,
        arguments=model.arguments,
        trusted=model.trusted,
        sha256=sha256,
        value_range=model.value_range,
        layout=model.layout,
        private_redirects=model.private_redirects,
    )


def image_size(options: Any) -> tuple[int, int] | None:
    """`--image_size` as (height, width) in pixels, or None if it was not given."""
    text = options.image_size
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d*)(?:[xX×]([1-9]\d*))?", text)
    if match is None:
        raise UserError(f"--image_size {text}: give HEIGHTxWIDTH in pixels, for example 224x224")
    return int(match[1]), int(match[2] or match[1])


def tags(options: Any) -> tuple[str, ...] | None:
    """`--tags` as a tuple, or None if it was not given."""
    if options.tags is None:
        return None
    return tuple(tag for tag in options.tags.split(",") if tag)


def arguments(options: Any) -> tuple[tuple[str, Any], ...]:
    """`--model_args` as (name, value) pairs."""
    if options.model_args is None:
        return ()
    try:
        values = json.loads(options.model_args)
    except json.JSONDecodeError as error:
        raise UserError(f"--model_args: not JSON: {error}") from None
    values_fit = isinstance(values, dict) and all(
        isinstance(value, (bool, int, float, str)) for value in values.values()
    )
    if not values_fit:
        raise UserError(
            "--model_args: give an object of names and numbers, strings or "
            """booleans, for example '{"depth_multiplier": 0.5}'"""
        )
    return tuple(sorted(values.items()))
