"""Axes, titles, annotations and colour bars of a still picture, where plotly puts them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.export.still.fonts import families
from analysis.export.still.resolved import (
    Resolved,
    array,
    colour,
    colours_on,
    error_lengths,
    grid,
    plain,
)
from analysis.plots.texts import tick_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAR_STEPS = 128
_BOLD = re.compile(r"<b>((?!</b>).)*</b>(<br><b>((?!</b>).)*</b>)*")
"""A text that is bold as a whole, or line by line."""
_HIDDEN: dict[str, Any] = {
    "showticklabels": False, "ticks": "", "title": {}, "showline": False, "showgrid": False,
    "zeroline": False,
}  # fmt: skip
"""What an axis that is not visible does not show."""


@dataclass(frozen=True)
class Canvas:
    """A matplotlib figure under a plotly figure's measures, with ``pt`` points for a CSS pixel."""

    figure: Figure
    source: Resolved
    pt: float

    def share(self, x: float, y: float) -> tuple[float, float]:
        """A place in the plot area ("paper", from the bottom left) in shares of the figure."""
        source, margins = self.source, self.source.margins
        inner_width = source.width - margins.left - margins.right
        inner_height = source.height - margins.top - margins.bottom
        return (
            (margins.left + x * inner_width) / source.width,
            (margins.bottom + y * inner_height) / source.height,
        )

    def text_style(self, *parts: Mapping[str, Any] | None, scale: float = 1.0) -> dict[str, Any]:
        """Matplotlib's names for the font of a text."""
        font = self.source.font(*parts, scale=scale)
        return {
            "fontfamily": families(str(font["family"])),
            "fontsize": font["size"] * self.pt,
            "color": colour(font["color"]),
            "fontweight": font.get("weight", "normal"),
            "fontstyle": font.get("style", "normal"),
            "parse_math": False,
        }

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """A text at a place in shares of the figure."""
        if _BOLD.fullmatch(text):
            style["fontweight"] = "bold"
        self.figure.text(x, y, plain(text), linespacing=1.15, **style)


def draw_axes(canvas: Canvas) -> dict[tuple[str, str], Axes]:
    """A pair of axes for each pair that the traces use, by plotly's references."""
    drawn: dict[tuple[str, str], Axes] = {}
    source = canvas.source
    for trace in source.traces:
        pair = (trace.get("xaxis", "x"), trace.get("yaxis", "y"))
        if pair in drawn:
            continue
        x, y = source.axis("x", pair[0]), source.axis("y", pair[1])
        (x0, x1), (y0, y1) = x.get("domain", (0, 1)), y.get("domain", (0, 1))
        left, bottom = canvas.share(x0, y0)
        right, top = canvas.share(x1, y1)
        axes = canvas.figure.add_axes((left, bottom, right - left, top - bottom))
        axes.set_facecolor(colour(source.layout.get("plot_bgcolor", "#fff")))
        _draw_axis(canvas, axes, "x", pair[0])
        _draw_axis(canvas, axes, "y", pair[1])
        drawn[pair] = axes
    return drawn


def _draw_axis(canvas: Canvas, axes: Axes, letter: str, reference: str) -> None:
    axis = canvas.source.axis(letter, reference)
    if axis.get("visible") is False:
        axis = axis | _HIDDEN
    words = canvas.source.words[letter, reference]
    low, high = _range(axis, canvas.source.shown_along(letter, reference), letter, words)
    size_px = canvas.source.width if letter == "x" else canvas.source.height
    domain = axis.get("domain", (0, 1))
    places, labels = _ticks(axis, low, high, words, size_px * (domain[1] - domain[0]))
    if axis.get("autorange") == "reversed":
        low, high = high, low
    (axes.set_xlim if letter == "x" else axes.set_ylim)(low, high)
    pt = canvas.pt
    shown = axis.get("showticklabels", True)
    one = axes.xaxis if letter == "x" else axes.yaxis
    one.set_ticks(places, labels if shown else [""] * len(places))
    outside = axis.get("ticks") == "outside"
    one.set_tick_params(
        length=(axis.get("ticklen", 5) if outside else 0) * pt,
        width=axis.get("tickwidth", 1) * pt,
        color=colour(axis.get("tickcolor", "#444")),
        pad=3 * pt,
    )
    style = canvas.text_style(axis.get("tickfont"))
    angle = -float(axis.get("tickangle") or 0)
    for label in one.get_ticklabels():
        label.set(**style)
        if letter == "x" and angle:
            label.set(rotation=angle, ha="right" if angle > 0 else "left", rotation_mode="anchor")
    title = axis.get("title") or {}
    if title.get("text"):
        set_label = axes.set_xlabel if letter == "x" else axes.set_ylabel
        style = canvas.text_style(title.get("font"), scale=1.0 if title.get("font") else 1.2)
        set_label(plain(title["text"]), labelpad=title.get("standoff", 4) * pt, **style)
    for side in ("bottom", "top") if letter == "x" else ("left", "right"):
        spine = axes.spines[side]
        spine.set_visible(bool(axis.get("showline")) and side in ("bottom", "left"))
        spine.set(
            color=colour(axis.get("linecolor", "#444")), linewidth=axis.get("linewidth", 1) * pt
        )
    grid, zero = (axis.get(name, 1) * pt for name in ("gridwidth", "zerolinewidth"))
    draw = axes.axvline if letter == "x" else axes.axhline
    if axis.get("showgrid", True):
        for place in places:
            draw(place, color=colour(axis.get("gridcolor", "#eee")), linewidth=grid, zorder=0.5)
    if axis.get("zeroline", True) and min(low, high) <= 0 <= max(low, high):
        draw(0, color=colour(axis.get("zerolinecolor", "#444")), linewidth=zero, zorder=0.6)


def _range(
    axis: Mapping[str, Any], traces: list[dict[str, Any]], letter: str, words: list[str]
) -> tuple[float, float]:
    """The ends of an axis: its own, or those of the traces with some room."""
    if axis.get("range") and axis.get("autorange") not in (True, "reversed"):
        low, high = axis["range"]
        return float(low), float(high)
    if words:
        return -0.5, len(words) - 0.5
    ends: list[float] = []
    heat = False
    for trace in traces:
        if trace.get("type") == "heatmap":
            heat = True
            if trace.get(letter) is None:
                n = grid(trace["z"]).shape[1 if letter == "x" else 0]
                ends += [-0.5, n - 0.5]
                continue
            values = array(trace[letter]).astype(float)
            ends += [values.min() - 0.5, values.max() + 0.5]
            continue
        values = np.array([v for v in array(trace.get(letter) or []).tolist() if v is not None])
        if len(values):
            ends += [float(np.nanmin(values)), float(np.nanmax(values))]
            if (lengths := error_lengths(trace, letter)) is not None:
                down, up = lengths
                ends += [float(np.nanmin(values - down)), float(np.nanmax(values + up))]
    if not ends:
        return 0.0, 1.0
    low, high = min(ends), max(ends)
    room = 0.0 if heat else 0.06 * ((high - low) or 1.0)
    return low - room, high + room


def _ticks(
    axis: Mapping[str, Any], low: float, high: float, words: list[str], size_px: float
) -> tuple[list[float], list[str]]:
    """Places and labels of an axis's ticks."""
    every = int(axis.get("ticklabelstep") or 1)
    mode = axis.get("tickmode")
    if axis.get("tickvals") is not None and mode in (None, "array"):
        places = [float(value) for value in array(axis["tickvals"]).tolist()]
        texts = axis.get("ticktext")
        labels = [str(text) for text in texts] if texts is not None else _labels(axis, places)
        counts = [0] * len(places)
    elif words:
        places, labels = [float(n) for n in range(len(words))], words
        counts = list(range(len(words)))
    else:
        own = axis.get("dtick") if mode in (None, "linear") else None
        step = own or tick_step(high - low, max(2, size_px / 70))
        start = float(axis.get("tick0") or 0)
        first = math.ceil((min(low, high) - start) / step - 1e-6)
        last = math.floor((max(low, high) - start) / step + 1e-6)
        counts = list(range(first, last + 1))
        places = [start + n * step for n in counts]
        labels = _labels(axis, places)
    low, high = min(low, high), max(low, high)
    kept = [at for at, place in enumerate(places) if low - 1e-9 <= place <= high + 1e-9]
    # plotly counts the ticks between labels from tick0.
    shown = [labels[at] if counts[at] % every == 0 else "" for at in kept]
    return [places[at] for at in kept], [plain(text) for text in shown]


def _labels(axis: Mapping[str, Any], places: list[float]) -> list[str]:
    """Numbers as plotly writes them."""
    form = axis.get("tickformat")
    step = abs(places[1] - places[0]) if len(places) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    before, after = axis.get("tickprefix") or "", axis.get("ticksuffix") or ""
    texts = []
    for place in places:
        try:
            number = format(place + 0.0, form) if form else f"{place:.{digits}f}"
        except ValueError:
            number = f"{place:.{digits}f}"
        number = number.replace("-", "\N{MINUS SIGN}")
        texts.append(f"{before}{number}{after}".rstrip())
    return texts


def draw_words(canvas: Canvas, axes: dict[tuple[str, str], Axes]) -> None:
    """The heading and the annotations."""
    source, layout = canvas.source, canvas.source.layout
    title = layout.get("title") or {}
    if title.get("text"):
        style = canvas.text_style(title.get("font"), scale=1.0 if title.get("font") else 1.4)
        anchor = title.get("xanchor", "auto")
        x = title.get("x", 0.05)
        y, va = 1 - source.margins.top / 2 / source.height, "center"
        if title.get("y") is not None:
            y, va = title["y"], title.get("yanchor", "center").replace("auto", "center")
        canvas.write(x, y, title["text"], ha=_anchored(anchor, x), va=va, **style)
    for note in layout.get("annotations") or ():
        if note.get("visible", True):
            _annotate(canvas, axes, note)


def _annotate(canvas: Canvas, axes: dict[tuple[str, str], Axes], note: dict[str, Any]) -> None:
    x, y = canvas.share(float(note.get("x", 0)), float(note.get("y", 0)))
    references = (note.get("xref", "x"), note.get("yref", "y"))
    for (of_x, of_y), one in axes.items():
        inverse = canvas.figure.transFigure.inverted()
        if references[0] == of_x:
            x = inverse.transform(one.transData.transform((float(note["x"]), 0)))[0]
        if references[1] == of_y:
            y = inverse.transform(one.transData.transform((0, float(note["y"]))))[1]
    width, height = canvas.source.width, canvas.source.height
    x += note.get("xshift", 0) / width
    y += note.get("yshift", 0) / height
    style = canvas.text_style(note.get("font"))
    if not note.get("showarrow", True):
        ha = _anchored(note.get("xanchor", "auto"), float(note.get("x", 0)))
        auto = "bottom" if note.get("y", 0) < 1 / 3 else "top" if note["y"] > 2 / 3 else "center"
        va = {"middle": "center", "auto": auto}.get(
            note.get("yanchor", "auto"), note.get("yanchor")
        )
        canvas.write(x, y, note.get("text", ""), ha=ha, va=va, **style)
        return
    from matplotlib.lines import Line2D

    end = (x + note.get("ax", -10) / width, y - note.get("ay", -30) / height)
    line = Line2D(
        [x, end[0]], [y, end[1]], color=colour(note.get("arrowcolor", "#444")), linewidth=canvas.pt
    )
    canvas.figure.add_artist(line)
    canvas.write(*end, note.get("text", ""), ha="center", va="bottom", **style)


def _anchored(anchor: str | None, x: float) -> str:
    if anchor in ("left", "center", "right"):
        return anchor
    return "left" if x < 1 / 3 else "right" if x > 2 / 3 else "center"


def draw_colour_bar(
    canvas: Canvas, bar: dict[str, Any], colorscale: Any, low: float, high: float
) -> None:
    """A colour bar upright beside the plot area, its title turned or above."""
    source, pt = canvas.source, canvas.pt
    left, middle = canvas.share(float(bar.get("x", 1.02)), float(bar.get("y", 0.5)))
    inner = source.height - source.margins.top - source.margins.bottom
    height = inner * float(bar.get("len", 1)) - 2 * bar.get("ypad", 10)
    if bar.get("lenmode") == "pixels":
        height = float(bar["len"]) - 2 * bar.get("ypad", 10)
    title = bar.get("title") or {}
    side = title.get("side", "top")
    style = canvas.text_style(title.get("font"))
    above = 0.0
    if title.get("text") and side == "top":
        above = (1 + str(title["text"]).count("<br>")) * 1.25 * style["fontsize"] / pt + 6
    left += bar.get("xpad", 10) / source.width
    bottom = middle - height / 2 / source.height
    axes = canvas.figure.add_axes(
        (
            left,
            bottom,
            bar.get("thickness", 30) / source.width,
            (height - above) / source.height,
        )
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(low, high)
    steps = np.linspace(low, high, _BAR_STEPS + 1)[:-1]
    shades = colours_on(colorscale, np.linspace(0, 1, _BAR_STEPS))
    from matplotlib.collections import PolyCollection

    # Each reaches to the top and lies under the next, so that no seam can show.
    boxes = [[(0, y), (1, y), (1, high), (0, high)] for y in steps]
    axes.add_collection(PolyCollection(boxes, facecolors=shades, linewidths=0))
    places, labels = _ticks(bar, low, high, [], height)
    if bar.get("showticklabels") is False:
        labels = [""] * len(places)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.yaxis.set_ticks(places, labels)
    axes.yaxis.set_tick_params(
        length=(bar.get("ticklen", 5) if bar.get("ticks") == "outside" else 0) * pt,
        width=pt,
        color="#444",
        pad=3 * pt,
    )
    for label in axes.yaxis.get_ticklabels():
        label.set(**canvas.text_style(bar.get("tickfont")))
    for spine in axes.spines.values():
        spine.set_visible(False)
    if not title.get("text"):
        return
    if side == "right":
        axes.yaxis.set_label_position("right")
        label = axes.set_ylabel(plain(title["text"]), labelpad=6 * pt, rotation=270, **style)
        label.set_verticalalignment("bottom")
    else:
        top = bottom + (height - above) / source.height + 5 / source.height
        canvas.write(left, top, title["text"], ha="left", va="bottom", **style)
