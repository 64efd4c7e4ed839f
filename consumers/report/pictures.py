"""The confusion matrix and the reliability diagram as PNG: the same bytes for the same numbers.

The figures are made without pyplot, which keeps a state for the whole process.
"""

from __future__ import annotations

import functools
import io
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from consumers.report.calibration import BINS, Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_WITH_NUMBERS = 30
MOST_WITH_NAMES = 100
LONGEST_NAME = 20
_DPI = 120
_MISSING = "□"


def confusion_picture(confusion: np.ndarray, classes: tuple[str, ...]) -> bytes:
    """A PNG of the confusion matrix; colours are shares of the true class.

    Up to 30 classes have their names and numbers of images, up to 100 their names, and more only
    their positions. Names are cut at 20 characters. What the font lacks, as most of Chinese and of
    emoji, is a box, and then the class's position stands before its name.

    Args:
      confusion: int64 [C, C]; rows are the true classes.
      classes: C names.
    """
    count = len(classes)
    figure = _figure(*(2.5 + min(12.0, max(3.0, 0.36 * count)),) * 2)
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    style = _font(size=8 if count <= MOST_WITH_NUMBERS else 5)
    if count <= MOST_WITH_NAMES:
        labels = [_drawable(name, position) for position, name in enumerate(classes)]
        axes.set_xticks(range(count), labels, rotation=90, parse_math=False, **style)
        axes.set_yticks(range(count), labels, parse_math=False, **style)
    else:
        _restyle_ticks(axes)
    if count <= MOST_WITH_NUMBERS:
        for (row, column), images in np.ndenumerate(confusion):
            if images:
                colour = "white" if shares[row, column] > 0.5 else "black"
                text = axes.text(column, row, str(images), color=colour, ha="center", va="center")
                text.set(**_font(size=7))
    axes.set_xlabel("predicted class", **_font())
    axes.set_ylabel("true class", **_font())
    return _png(figure)


def reliability_picture(before: Reliability, after: Reliability) -> bytes:
    """A PNG of two reliability diagrams, before and after temperature scaling.

    Above, how often answers of a confidence are right: on the diagonal where the classifier is
    calibrated. Below, how many answers are of that confidence.
    """
    figure = _figure(9.0, 5.0)
    rows = figure.subplots(2, 2, sharex=True, height_ratios=[3, 1])
    _draw_reliability(rows[:, 0], before, "before temperature scaling")
    _draw_reliability(rows[:, 1], after, "after temperature scaling")
    rows[0, 0].set_ylabel("share that is right", **_font())
    rows[1, 0].set_ylabel("share of answers", **_font())
    return _png(figure)


def _draw_reliability(column: np.ndarray, measured: Reliability, title: str) -> None:
    accuracy, share = column
    left, width = np.arange(BINS) / BINS, 1 / BINS
    bars: dict[str, Any] = {"width": width, "align": "edge", "edgecolor": "white"}
    accuracy.bar(left, np.nan_to_num(measured.accuracy), color="tab:blue", **bars)
    full = measured.counts > 0
    accuracy.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--")
    accuracy.plot(
        measured.confidence[full], measured.accuracy[full], "o", color="tab:orange", markersize=4
    )
    error = f"expected calibration error {measured.expected_error:.3f}"
    accuracy.set_title(f"{title}\n{error}", **_font(size=10))
    share.bar(left, measured.counts / measured.counts.sum(), color="tab:gray", **bars)
    share.set_xlabel("confidence", **_font())
    for axes in column:
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        _restyle_ticks(axes)


def _figure(width: float, height: float) -> Figure:
    """A figure with a canvas of its own, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    # Without the version of Matplotlib that it would note.
    figure.savefig(picture, format="png", dpi=_DPI, metadata={"Software": None})
    return picture.getvalue()


def _font(size: int = 9) -> dict[str, Any]:
    """What a text is drawn with, whatever somebody's matplotlibrc says."""
    from matplotlib.font_manager import FontProperties

    return {"fontproperties": FontProperties(fname=_font_file(), size=size), "usetex": False}


def _restyle_ticks(axes: Axes) -> None:
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(**_font(size=8))


@functools.cache
def _font_file() -> str:
    """DejaVu Sans, which Matplotlib brings along."""
    import matplotlib

    return str(pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@functools.cache
def _characters() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(_font_file()).get_charmap())


def _drawable(name: str, position: int) -> str:
    shown = " ".join(name.split())
    if len(shown) > LONGEST_NAME:
        shown = shown[: LONGEST_NAME - 1] + "…"
    drawn = "".join(each if ord(each) in _characters() else _MISSING for each in shown)
    return f"{position}: {drawn}" if drawn != shown or not drawn else drawn
