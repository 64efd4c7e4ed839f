"""Numbers of a training for TensorBoard, written without the tensorboard package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Summaries:
    """A log directory that TensorBoard reads; without a directory nothing is written.

    After a resume a second file goes on from the last checkpoint; TensorBoard shows the steps that
    were done twice once.
    """

    def __init__(self, directory: str | None):
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(directory) if directory else None
        self._metadata: Any = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )
        self._metadata.data_class = 1  # DATA_CLASS_SCALAR, tensorflow/core/framework/summary.proto

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a number to each of some curves."""
        if self._writer is None:
            return
        import tensorflow as tf

        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=self._metadata)

    def flush(self) -> None:
        """Has what was written lie on disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            self._writer.close()
