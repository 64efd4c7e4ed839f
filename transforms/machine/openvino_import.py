"""Importing OpenVINO without its telemetry.

`import openvino` would send an event to its maker's analytics service, and so would each model that
is converted: from a forked copy of this process, which the threads of gRPC do not outlive.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """The module `openvino`, with the stub for its telemetry that it has for who has none.

    Where somebody has imported it before, it is as it is.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]  # an ImportError
    return importlib.import_module("openvino")
