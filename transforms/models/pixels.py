"""From a batch of images to what a model takes: its dtype, range and layout, in its graph."""

from __future__ import annotations

from typing import Any

from transforms.errors import Parameter, UserError
from transforms.models.source import UNIT_RANGE, ModelSource, range_text

_BYTE_RANGE = (0.0, 255.0)


def model_input(images: Any, dtype: Any, source: ModelSource) -> Any:
    """A tensor of images [B, H, W, 3], float32 in [0, 1] or uint8, as the model takes them.

    In [0, 1] as `tf.image.convert_image_dtype` converts; uint8 in [0, 255] as they are; else
    `x * (high - low) + low` of the float32 in [0, 1].
    """
    import tensorflow as tf

    low, high = source.value_range
    if source.value_range == UNIT_RANGE:
        if images.dtype != dtype:  # by way of float32, as float16 rounds the scale itself
            images = tf.image.convert_image_dtype(images, tf.float32)
        images = tf.image.convert_image_dtype(images, dtype, saturate=True)
    elif source.value_range == _BYTE_RANGE and images.dtype == tf.uint8:
        images = tf.cast(images, dtype)
    else:
        images = tf.image.convert_image_dtype(images, tf.float32) * (high - low) + low
        images = tf.cast(images, dtype)
    return tf.transpose(images, [0, 3, 1, 2]) if source.layout == "NCHW" else images


def image_sizes(
    fixed: list[int | None], is_float: bool, source: ModelSource
) -> tuple[int | None, int | None, int | None]:
    """Batch, height and width where an input of pixels fixes them.

    Args:
      fixed: the input's shape; empty if its rank is unknown.
      is_float: whether it takes floating point numbers.
      source: the model.

    Raises:
      UserError: it takes no images, or others than `source` says.
    """
    takes = f"takes {_shape(fixed)}"
    if fixed and len(fixed) != 4:
        raise UserError(
            f"{takes}; images are [B, H, W, 3], so it needs an input of four dimensions",
            subject=source.subject,
        )
    if not is_float and source.value_range != UNIT_RANGE:
        raise UserError(
            f"{source.name} takes integers, which have one range; leave it out",
            subject=Parameter("value_range", range_text(source.value_range)),
        )
    batch, *rest = fixed or [None] * 4
    if source.layout == "NCHW":
        channels, height, width = rest
        if channels not in (3, None):
            raise UserError(
                f"{source.name} {takes}; NCHW images are [B, 3, H, W]",
                subject=Parameter("layout", "NCHW"),
            )
        return batch, height, width
    height, width, channels = rest
    if channels != 3 and height == 3:
        raise UserError(
            f"takes [B, 3, {width or 'H'}, {channels or 'W'}] (NCHW), images are [B, H, W, 3]; ",
            Parameter("layout", "NCHW"),
            " transposes them",
            subject=source.subject,
        )
    if channels not in (3, None):
        raise UserError(
            f"{takes}; the last dimension must be 3, the RGB channels of images [B, H, W, 3]",
            subject=source.subject,
        )
    return batch, height, width


def refuse_pixel_parameters(source: ModelSource) -> None:
    """For a model that decodes images itself.

    Raises:
      UserError: `source` says how it takes pixels.
    """
    for parameter, is_given in (
        (
            Parameter("value_range", range_text(source.value_range)),
            source.value_range != UNIT_RANGE,
        ),
        (Parameter("layout", source.layout), source.layout != "NHWC"),
    ):
        if is_given:
            raise UserError(f"{source.name} decodes the images itself", subject=parameter)


def _shape(shape: list[int | None]) -> str:
    """A shape as people write it.

    >>> _shape([None, None, 224, 3])
    '[B, any, 224, 3]'
    """
    sizes = ["any" if size is None else str(size) for size in shape]
    return f"[{', '.join(['B', *sizes[1:]] if shape and shape[0] is None else sizes)}]"
