"""Who takes part: one line each. A contender turns a directory of images into Parquet."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys

PEERS = "benchmarks.peers"

# Nobody reports to anybody, and nobody draws progress bars.
ENVIRONMENT = {
    "DAFT_ANALYTICS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "DO_NOT_TRACK": "true",
    "OPENVINO_TELEMETRY_OPT_OUT": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "SCARF_NO_ANALYTICS": "true",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@dataclasses.dataclass(frozen=True)
class Contender:
    """A program to measure.

    Attributes:
      name: in the table.
      module: of a peer, which takes IMAGES OUT MODEL; None for this project's own command.
      flags: of this project's own command.
      needs: package without which it is left out.
      kinds: the image sets that it runs on.
      bound: of this project's own: engine, precision and fields of the image spec, for
        `benchmarks.bound`.
    """

    name: str
    module: str | None = None
    flags: tuple[str, ...] = ()
    needs: str = "tensorflow"
    kinds: tuple[str, ...] = ("jpeg",)
    bound: tuple[str, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether the package that it needs is installed."""
        return importlib.util.find_spec(self.needs) is not None

    def command(self, images: str, out: str, model: str) -> list[str]:
        """The command line that turns `images` into `out`."""
        if self.module:
            return [sys.executable, "-m", self.module, images, out, model]
        ours = ["--input", images, "--output", out, "--model", model, "--image_size", "224x224"]
        return [sys.executable, "-m", "pipeline.run", *ours, *self.flags]


ALL_KINDS = ("jpeg", "photo", "png", "tfrecord")

OURS = (
    Contender(
        "ours, tensorflow float32",
        flags=("--engine", "tensorflow"),
        kinds=ALL_KINDS,
        bound=("tensorflow", "float32"),
    ),
    Contender(
        "ours, tensorflow float32, decode fast",
        flags=("--engine", "tensorflow", "--decode", "fast"),
        kinds=("photo",),
    ),
    Contender(  # what auto takes on a CPU
        "ours, auto",
        flags=("--engine", "auto"),
        bound=("openvino", "float32"),
    ),
    Contender(  # its vectors' likeness is in the table; the probe's images are a harder case
        "ours, openvino bfloat16",
        flags=("--engine", "openvino", "--precision", "bfloat16", "--min_cosine", "0.99"),
        bound=("openvino", "bfloat16"),
    ),
)

THEIRS = (
    Contender("tf.data + hub.load", f"{PEERS}.tf_data", kinds=ALL_KINDS),
    Contender("naive Beam", f"{PEERS}.naive_beam"),
    Contender("Ray Data", f"{PEERS}.ray_data", needs="ray"),
    Contender("Daft", f"{PEERS}.daft_images", needs="daft"),
)
