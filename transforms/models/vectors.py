"""What a model gives to one vector an image."""

from __future__ import annotations

from typing import Any

from transforms.errors import Parameter, UserError
from transforms.models.source import ModelSource


def vector(answer: Any, source: ModelSource) -> Any:
    """The output that is asked for, as a float32 tensor [B, N].

    [B, 1, 1, N] is squeezed; a feature map [B, H, W, C] is pooled over H and W if `source.pool`
    says how. The map of a model whose layout is NCHW is [B, C, H, W].

    Raises:
      UserError: there are several outputs and none is chosen, or it is no vector an image.
    """
    import tensorflow as tf

    tensor = tf.convert_to_tensor(_choose(answer, source))
    tensor = tf.cast(tensor, tf.float32)
    if tensor.shape.rank == 4:
        if source.layout == "NCHW":
            tensor = tf.transpose(tensor, [0, 2, 3, 1])
        if tensor.shape[1:3] == [1, 1]:
            return tf.squeeze(tensor, [1, 2])
        if source.pool == "mean":
            return tf.reduce_mean(tensor, [1, 2])
        if source.pool == "max":
            return tf.reduce_max(tensor, [1, 2])
        raise UserError(
            f"gives a feature map {_shape(tensor)}, not vectors [B, N]; ",
            Parameter("pool", "mean"),
            " or ",
            Parameter("pool", "max"),
            " makes vectors of it",
            subject=source.subject,
            remedy=Parameter("pool", "mean"),
        )
    if tensor.shape.rank not in (2, None):
        raise UserError(f"gives {_shape(tensor)}, not vectors [B, N]", subject=source.subject)
    return tensor


def _choose(answer: Any, source: ModelSource) -> Any:
    if not isinstance(answer, (dict, list, tuple)):
        if source.output_key is not None:
            raise UserError(
                f"{source.name} has one output without a name", subject=Parameter("output_key")
            )
        return answer
    named = answer if isinstance(answer, dict) else dict(enumerate(answer))
    named = {str(key): value for key, value in named.items()}
    listed = ", ".join(f"{key} {_shape(value)}" for key, value in sorted(named.items()))
    if source.output_key is not None:
        if source.output_key in named:
            return named[source.output_key]
        raise UserError(
            f"{source.name} has no such output; it has {listed}",
            subject=Parameter("output_key", source.output_key),
        )
    if len(named) == 1:
        return next(iter(named.values()))
    if "default" in named:
        return named["default"]
    which = Parameter("output_key")
    raise UserError(
        "choose one of its outputs with ",
        which,
        f": {listed}",
        subject=source.subject,
        remedy=which,
    )


def _shape(tensor: Any) -> str:
    shape = getattr(tensor, "shape", None)
    if shape is None or shape.rank is None:
        return "[?]"
    return "[" + ", ".join("B" if i == 0 else str(size) for i, size in enumerate(shape)) + "]"
