"""Pictures open, say the same twice, and no name of a class spoils them."""

from __future__ import annotations

import io
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from PIL import Image

from consumers.report.calibration import reliability
from consumers.report.pictures import confusion_picture, reliability_picture

ODD = (
    "$x$",
    "$\\frac{",
    "a\nb\tc",
    "日本語",
    "🐕 dog",
    "y" * 300,
    "_^{}%#&\\",
    "",
    "العربية",
    "e\u0301\u200b\u202e",
    "\x00\x1b[2J",
    "\ud800",
)


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def opened(png: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(png))
    picture.load()
    assert picture.format == "PNG"
    assert not set(picture.info) - {"dpi"}, "no date, no version"
    return picture


def test_odd_names_are_drawn_without_a_warning():
    confusion = np.random.default_rng(0).integers(0, 5, (len(ODD), len(ODD)))
    picture = opened(confusion_picture(confusion, ODD))
    assert 400 < picture.width < 1500


@pytest.mark.parametrize("count", [2, 31, 400])
def test_any_number_of_classes_fits(count):
    confusion = np.eye(count, dtype=np.int64) * 1234
    confusion[0] = 0  # a class without images
    picture = opened(confusion_picture(confusion, tuple(f"class {row}" for row in range(count))))
    assert max(picture.size) < 2000


def test_what_is_on_the_diagonal_is_dark():
    png = confusion_picture(np.array([[90, 10], [0, 100]]), ("a", "b"))
    pixels = np.asarray(opened(png).convert("RGB")).astype(int)
    dark_blue = (pixels[..., 2] > pixels[..., 0] + 50) & (pixels[..., 0] < 60)
    rows, columns = np.nonzero(dark_blue)
    assert np.corrcoef(rows, columns)[0, 1] > 0.5


def test_the_same_numbers_are_the_same_bytes_whatever_style_is_set():
    measured = reliability(np.linspace(0.4, 1, 50), np.arange(50) % 3 > 0)
    matrix, names = np.array([[3, 1], [0, 4]]), ("a", "$b$")
    first = reliability_picture(measured, measured), confusion_picture(matrix, names)
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.family": ["serif"], "text.parse_math": True}):
        assert (reliability_picture(measured, measured), confusion_picture(matrix, names)) == first
    assert dict(matplotlib.rcParams) == before
    assert first[0] != reliability_picture(
        measured, reliability(np.linspace(0.4, 1, 50), np.arange(50) > 9)
    )


def test_a_single_answer_has_a_reliability_diagram():
    measured = reliability(np.array([0.7]), np.array([True]))
    opened(reliability_picture(measured, measured))


def test_the_state_of_pyplot_is_not_touched():
    confusion_picture(np.eye(2, dtype=np.int64), ("a", "b"))
    assert Gcf.get_all_fig_managers() == []
