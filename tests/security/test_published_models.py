"""Models as they are published need no trust: nothing of `keras.applications` is refused.

Beside these, all forms of `tests/helpers/model_forms.py` (the built-in, TF1 Hub modules and smaller
applications among them) run without trust in `tests/end_to_end/test_model_forms.py`, but for files
of tf_keras, which need it.
"""

from __future__ import annotations

import keras
import pytest
import tf_keras

from tests.helpers.soak import usual_or_soak
from transforms.models import trust

ALL = (
    "ConvNeXtTiny",
    "DenseNet121",
    "DenseNet169",
    "EfficientNetB0",
    "EfficientNetB3",
    "EfficientNetV2B0",
    "EfficientNetV2S",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet101",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "VGG19",
    "Xception",
)
NAMES = usual_or_soak(("MobileNet",), ALL)


@pytest.mark.parametrize("library", [keras, tf_keras])
@pytest.mark.parametrize("name", NAMES)
def test_an_application_of_keras_needs_no_trust(tmp_path, library, name):
    library.backend.clear_session()
    size = 224 if name == "NASNetMobile" else 96
    make = getattr(library.applications, name)
    model = make(weights=None, input_shape=(size, size, 3), classes=2)
    model.export(str(tmp_path / "model"), **({"verbose": False} if library is keras else {}))
    assert trust.check_program(str(tmp_path / "model")).forbidden == ()
    if library is keras:
        model.save(tmp_path / "model.keras")
        assert trust.check_keras_file(str(tmp_path / "model.keras")).forbidden == ()
