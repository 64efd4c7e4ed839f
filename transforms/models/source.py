"""Which model, and where its files are. Nothing here knows Beam or imports TensorFlow.

A model follows TensorFlow Hub's Common SavedModel APIs for image tasks: float32 [B, H, W, 3] in
[0, 1] in, float32 [B, N] out. https://www.tensorflow.org/hub/common_saved_model_apis/images
`transforms.models.loading` makes one callable of any published form.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, Literal

from transforms.errors import Parameter, UserError, one_line
from transforms.machine import entries
from transforms.machine.cache import UnsafeCacheError
from transforms.models import builtin

Task = Literal["feature_vector", "classification"]
Pool = Literal["mean", "max"]
Layout = Literal["NHWC", "NCHW"]
ValueRange = tuple[float, float]

UNIT_RANGE: ValueRange = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """Which model, and how to call it: what a worker needs in order to load it.

    Attributes:
      name: what the user calls it: the built-in's name, a directory, a URL, …; for messages.
      task: what the model is asked for.
      path: a SavedModel's directory or a `.keras` file on this machine; None: `name` is it, or the
        handle that whoever loads it stages.
      signature: which signature to call; None: the first of `__call__`, `image_<task>`,
        `serving_default`, `default` and a sole signature that there is.
      tags: tags of the graph to load; None: the only one, that for serving, or the untagged one.
      output_key: which of several outputs; None: the only one, or `default`.
      pool: how a feature map [B, H, W, C] becomes a vector; None refuses it.
      arguments: hyper-parameters to call it with, as (name, value) pairs.
      trusted: whether ops that reach outside the model are accepted.
      sha256: the only digest that is accepted where `name` is staged, as `staging.stage` has it;
        None: any.
      value_range: what a black and a white pixel are in the model's input.
      layout: whether its input is [B, H, W, 3] or [B, 3, H, W].
      private_redirects: as in `staging.staged`, where `name` is a URL.
    """

    name: str = builtin.NAME
    task: Task = "feature_vector"
    path: str | None = None
    signature: str | None = None
    tags: tuple[str, ...] | None = None
    output_key: str | None = None
    pool: Pool | None = None
    arguments: tuple[tuple[str, Any], ...] = ()
    trusted: bool = False
    sha256: str | None = None
    value_range: ValueRange = UNIT_RANGE
    layout: Layout = "NHWC"
    private_redirects: bool = False

    @property
    def subject(self) -> Parameter:
        """What is wrong where the model is: the subject of a `UserError`."""
        return Parameter("model", self.name)

    @property
    def is_builtin(self) -> bool:
        """Whether it is the model that comes with this program."""
        return self.name == builtin.NAME

    @property
    def is_keras_file(self) -> bool:
        """Whether it is a `.keras` file and not a SavedModel's directory."""
        return (self.path or self.name).endswith(".keras")

    def local_path(self) -> str:
        """The model's directory or file here; the built-in model is exported if needed."""
        if not self.is_builtin:
            return self.path or self.name
        try:
            return builtin.exported(self.task)
        except UnsafeCacheError as error:
            raise UserError(str(error), subject=self.subject) from error
        except OSError as error:
            raise UserError(
                f"cannot be written to the cache: {one_line(error)}; set "
                "BEAM_IMAGE_FEATURES_CACHE to a directory that can be written",
                subject=self.subject,
            ) from error


def range_text(value_range: ValueRange) -> str:
    """A range as it is written.

    >>> range_text((-1.0, 1.0))
    '-1,1'
    """
    return ",".join(f"{end:g}" for end in value_range)


def check_exists(source: ModelSource) -> None:
    """Raises a UserError that says what is missing if there is no model at the source's path."""
    path = source.local_path()
    if source.is_keras_file:
        if not os.path.isfile(path):
            raise UserError("no such file", subject=source.subject)
        return
    if not os.path.isdir(path):
        raise UserError(
            f"no such directory; give a SavedModel's directory or {builtin.NAME} (the built-in)",
            subject=source.subject,
        )
    names = sorted(name for name in os.listdir(path) if name != entries.MARKER)
    if "saved_model.pb" not in names and "saved_model.pbtxt" not in names:
        there = ", ".join(names[:10]) or "nothing"
        raise UserError(f"no saved_model.pb in it; it holds {there}", subject=source.subject)


def files_sha256(source: ModelSource) -> str:
    """SHA-256 of a model's files: what decides its numbers."""
    if source.is_builtin:
        return builtin.answers_sha256(source.task)
    check_exists(source)
    with _readable(source):
        return entries.tree_sha256(source.local_path())


def files_state(source: ModelSource) -> tuple[tuple[str, int, int], ...]:
    """Name, size and modification time of the model's files: changes when it is saved anew."""
    if source.is_builtin:
        return ()
    with _readable(source):
        status = [(path, os.stat(path)) for path in entries.tree_files(source.local_path())]
    return tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in status)


@contextlib.contextmanager
def _readable(source: ModelSource) -> Iterator[None]:
    """Tells in one line that the model's files cannot be read."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot be read: {one_line(error)}", subject=source.subject) from error
