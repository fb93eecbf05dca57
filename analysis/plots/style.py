"""One look for every figure: fonts, sizes, colours, and the frame of figures of lines and points.

Sizes are CSS pixels (1/96 in) on the screen. Print keeps the proportions, see
``analysis.export.files``. Every attribute that a figure needs is set on the figure itself, so
plotly on a screen and matplotlib in print draw the same.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence

import plotly.graph_objects as go

FONT = "'Liberation Sans', Arial, Helvetica, sans-serif"
TEXT_PX = 13
"""The smallest text of a figure."""
TITLE_PX = 16
AXIS_TITLE_PX = 1.2 * TEXT_PX
"""plotly's, where a figure sets none."""
AXIS_STANDOFF = 4
"""From numbers to the title of their axis; plotly's own distance puts it on a legend below."""
SCREEN_WIDTH = 920
"""Fits beside JupyterLab's sidebar in a window of 1440 pixels."""

BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, BLACK, GREY = COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#000000",
    "#767676",
)
"""Okabe and Ito's colours, told apart by every kind of colour vision."""
SEQUENTIAL = "Viridis"
DIVERGING = (
    (0.0, "#67001f"),
    (0.25, "#d6604d"),
    (0.5, "#ffffff"),
    (0.75, "#4393c3"),
    (1.0, "#053061"),
)
"""Red, white, blue of ColorBrewer's RdBu, with a white middle where that has a light grey."""
GRID = "#dddddd"
INK = "#000000"
QUIET = "#444444"
"""Of words that are not titles."""
FRAME = "#bbbbbb"
"""Around a legend."""
PAPER = "#ffffff"
GAP = "#a49fae"
"""Between cells of a heatmap: apart from dark purple and from yellow, quieter than white."""

# From space to tilde, in thousandths of the font size: the advance widths of Helvetica, which Arial
# and Liberation Sans share, and of DejaVu Sans, which Linux has where it has none of these.
_HELVETICA = (
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556,
    1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778,
    667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556,
    333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
    556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
)  # fmt: skip
_DEJAVU = (
    318, 401, 460, 838, 637, 951, 780, 275, 391, 391, 500, 838, 318, 361, 318, 337,
    637, 637, 637, 637, 637, 637, 637, 637, 637, 637, 337, 337, 838, 838, 838, 531,
    1000, 685, 687, 699, 771, 632, 576, 775, 752, 295, 295, 656, 558, 863, 749, 788,
    604, 788, 695, 635, 611, 732, 685, 989, 686, 611, 686, 391, 337, 391, 838, 500,
    500, 613, 635, 550, 635, 616, 353, 635, 634, 278, 278, 580, 278, 975, 634, 612,
    635, 635, 412, 521, 393, 634, 592, 818, 592, 592, 525, 637, 337, 637, 838,
)  # fmt: skip
_WIDEST = tuple(map(max, _HELVETICA, _DEJAVU))
_WHOLE_PIXELS = 1.02  # a browser may move every letter to whole pixels


def text_width(text: str, size: float) -> float:
    """Room that a line without markup needs in any of the sans-serif faces that readers have.

    In the unit of ``size``, seldom too small.
    """
    thousandths = sum(
        _WIDEST[ord(letter) - 32] if " " <= letter <= "~" else 850 if ord(letter) < 0x1100 else 1000
        for letter in text
    )
    return thousandths / 1000 * size * _WHOLE_PIXELS


def axis_suffix(panel: int) -> str:
    """What plotly adds to the names of a panel's axes and legend: the first has no number."""
    return "" if panel == 0 else str(panel + 1)


def framed(title: str, width: float, height: float, *, below: float, legend_y: float) -> go.Figure:
    """An empty figure with a title above and a legend below.

    Sizes and the room ``below`` the panels are CSS pixels, ``legend_y`` heights of the panels.
    """
    return go.Figure(
        layout=go.Layout(
            template="none",
            width=width,
            height=height,
            title={"text": title, "font": {"size": TITLE_PX}, "x": 0.5},
            font={"family": FONT, "size": TEXT_PX, "color": INK},
            margin={"l": 65, "r": 20, "t": 55, "b": below},
            legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": legend_y},
            hovermode="closest",
        )
    )


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float], name: str) -> go.Scatter:
    """The area between two lines, shaded; hovering passes through it."""
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        mode="lines",
        fill="toself",
        fillcolor="rgba(119,119,119,0.3)",
        line={"width": 0},
        hoverinfo="skip",
        name=name,
    )


def rgba(colour: str) -> tuple[float, float, float, float]:
    """Red, green, blue and opacity, from 0 to 1, of any colour that plotly takes in a scale.

    Raises:
        ValueError: it is no such colour.
    """
    from matplotlib.colors import to_rgba

    written = re.fullmatch(r"(rgb|hsl)a?\((.+)\)", "".join(colour.lower().split()))
    if written is None:
        return to_rgba(colour)
    model, numbers = written[1], written[2].split(",")
    first, second, third, *rest = numbers
    opacity = float(rest[0]) if rest else 1.0
    if model == "hsl":
        lightness, saturation = _share(third, 1), _share(second, 1)
        return (*colorsys.hls_to_rgb(float(first) / 360 % 1, lightness, saturation), opacity)
    return (*(_share(part, 255) for part in numbers[:3]), opacity)  # type: ignore[return-value]


def _share(text: str, whole: float) -> float:
    """A percentage, or a number of so much, as a share from 0 to 1."""
    share = float(text[:-1]) / 100 if text.endswith("%") else float(text) / whole
    return min(1.0, max(0.0, share))
