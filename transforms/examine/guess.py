"""Whether a model looks like a classifier: its publisher knows, its outputs give hints."""

from __future__ import annotations

import re

import numpy as np

from transforms.examine.probes import Candidate

# ImageNet's 1,000 classes, also with one for the background, and the 21,000 of its parent.
_IMAGENET_CLASSES = frozenset({1000, 1001, 21_841, 21_843})

_NAMES = re.compile(r"logit|predict|probabilit|softmax|class|score", re.IGNORECASE)


def classifier_hint(candidate: Candidate) -> str | None:
    """Why a model looks like a classifier; None: it does not.

    It may say so itself. That its answers are probabilities is told by calling it; else its
    output's name or length is all that there is to go by.
    """
    width = candidate.vector_width
    if width is None or candidate.loaded is None:
        return None
    own = candidate.description.own
    if own is not None:
        classes = len(own.labels)
        return f"it says so, and names its {classes:,} classes" if classes else None
    if candidate.loaded.function == "image_classification":
        return "its signature is image_classification"
    if width > 1:
        answers = candidate.vectors(candidate.images)
        if (answers >= 0).all() and np.allclose(answers.sum(axis=1), 1, atol=1e-3):
            return f"each of its vectors of {width} adds up to 1, as probabilities do"
    output = candidate.output()
    if output is not None and _NAMES.search(output.name):
        return f"its output is called {output.name}"
    if width in _IMAGENET_CLASSES:
        return f"its vectors have {width} values, as many as ImageNet has classes"
    return None
