"""A model is a program: what of it is not known to be harmless, found without loading it.

`check_program` reads a SavedModel's protocol buffers, `check_keras_file` a `.keras` file's
configuration and weights. Both go by lists of what image models are made of, and name everything
else. Neither is a sandbox: an allowed op may have a bug, and a model may need all memory or never
end.
"""

from __future__ import annotations

from transforms.models.trust.keras_config import check_keras_file, is_of_keras_2
from transforms.models.trust.report import ForbiddenOp, TrustReport, refuse_if_untrusted
from transforms.models.trust.saved_model import check_program

__all__ = [
    "ForbiddenOp",
    "TrustReport",
    "check_keras_file",
    "check_program",
    "is_of_keras_2",
    "refuse_if_untrusted",
]
