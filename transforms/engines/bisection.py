"""A batch on which the model fails: halved until the images that make it fail are alone.

If it fails on a blank image as well, no image is at fault: the device is gone, memory is short, a
file of the model was removed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from transforms.errors import one_line
from transforms.images.decode import blank_images
from transforms.images.spec import ImageSpec
from transforms.models.loading import LoadedModel

# float32 [B, N] for images [B, H, W, 3]; an `Engine`, or any function that does the same.
ModelFunction = Callable[[np.ndarray], np.ndarray]

# TensorFlow's errors that speak of a device or its memory, and not of what was computed.
_OF_THE_MACHINE = frozenset({"InternalError", "ResourceExhaustedError", "UnavailableError"})


class ModelFailedError(RuntimeError):
    """The model fails whatever it is given: no image is at fault, and none gets an error row.

    It fails the bundle, which the runner tries again, perhaps elsewhere.
    """


def bisected(
    images: np.ndarray, engine: ModelFunction
) -> tuple[list[np.ndarray], list[tuple[int, Exception]]]:
    """Features of the images that work, in order, and (position, failure) of those that do not.

    Raises:
      ModelFailedError: the machine seems at fault, and the model fails on a blank image as well.
    """
    return _bisect(images, 0, engine)


def _bisect(
    images: np.ndarray, first: int, engine: ModelFunction
) -> tuple[list[np.ndarray], list[tuple[int, Exception]]]:
    if len(images) == 0:
        return [], []
    try:
        return [engine(images)], []
    except Exception as failure:  # noqa: BLE001 - a model may raise anything; the row says what
        if len(images) == 1:
            return _alone(images, first, engine, failure)
    half = len(images) // 2
    arrays, failures = _bisect(images[:half], first, engine)
    more_arrays, more_failures = _bisect(images[half:], first + half, engine)
    return arrays + more_arrays, failures + more_failures


def _alone(
    image: np.ndarray, position: int, engine: ModelFunction, failure: Exception
) -> tuple[list[np.ndarray], list[tuple[int, Exception]]]:
    """As `_bisect`, of one image that failed: tried once more if the machine seems at fault."""
    if _is_of_the_machine(failure):
        refuse_if_it_fails_on_all(image, engine)
        try:
            return [engine(image)], []
        except Exception as again:  # noqa: BLE001 - now it is the image
            failure = again
    return [], [(position, failure)]


def _is_of_the_machine(failure: Exception) -> bool:
    names = {base.__name__ for base in type(failure).__mro__}
    return isinstance(failure, (MemoryError, OSError)) or not names.isdisjoint(_OF_THE_MACHINE)


def refuse_if_it_fails_on_all(images: np.ndarray, engine: ModelFunction) -> None:
    """Runs a blank image like `images`, on which the model has worked before the job began.

    Raises:
      ModelFailedError: it fails.
    """
    blank = np.zeros((1, *images.shape[1:]), images.dtype)
    if images.dtype == object:
        model = getattr(engine, "model", None)
        if not isinstance(model, LoadedModel):  # nobody knows what is in the images' place
            return
        blank = blank_images(1, ImageSpec(0, 0, kind=model.kind))
    try:
        engine(blank)
    except Exception as failure:  # a model may raise anything
        raise ModelFailedError(
            f"the model fails on a blank image, too: {one_line(failure)}"
        ) from failure
