"""Heatmaps, points, lines, bands and error bars of a still picture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.export.still.frame import Canvas, draw_colour_bar
from analysis.export.still.resolved import (
    SYMBOLS,
    array,
    colour,
    colours_on,
    error_lengths,
    grid,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES: dict[str, Any] = {
    "solid": "-", "dot": (0, (1, 2)), "dash": (0, (4, 3)), "longdash": (0, (7, 3)),
    "dashdot": (0, (4, 2, 1, 2)), "longdashdot": (0, (7, 2, 1, 2)),
}  # fmt: skip


def draw_traces(canvas: Canvas, axes: dict[tuple[str, str], Axes]) -> None:
    """Every trace, later ones over earlier ones."""
    bars: set[str] = set()
    for number, trace in enumerate(canvas.source.traces):
        pair = (trace.get("xaxis", "x"), trace.get("yaxis", "y"))
        order = 2 + 0.01 * number
        if trace.get("type") == "heatmap":
            _heatmap(canvas, axes[pair], trace, order, bars)
        else:
            _scatter(canvas, axes[pair], trace, order)


def _heatmap(
    canvas: Canvas, axes: Axes, trace: dict[str, Any], order: float, bars: set[str]
) -> None:
    """Cells as vectors, each with its border of the background's colour."""
    from matplotlib.collections import PolyCollection

    z = grid(trace["z"])
    shared = trace.get("coloraxis")
    scale = canvas.source.layout.get(shared, {}) if shared else trace
    low, high = (
        (scale.get("cmin"), scale.get("cmax")) if shared else (scale.get("zmin"), scale.get("zmax"))
    )
    low = float(np.nanmin(z)) if low is None else float(low)
    high = float(np.nanmax(z)) if high is None else float(high)
    stops = scale["colorscale"]
    if scale.get("reversescale"):
        stops = [(1 - stop, shade) for stop, shade in reversed(stops)]
    shades = colours_on(stops, (z.ravel() - low) / ((high - low) or 1.0))
    seen = ~np.isnan(z.ravel())
    rows, columns = z.shape
    xs = _middles(trace, "x", columns, canvas)
    ys = _middles(trace, "y", rows, canvas)
    # Gaps are given in pixels of the source.
    box = axes.get_position()
    x_px = abs(np.diff(axes.get_xlim())[0]) / (box.width * canvas.source.width)
    y_px = abs(np.diff(axes.get_ylim())[0]) / (box.height * canvas.source.height)
    half_x = 0.5 - trace.get("xgap", 0) * x_px / 2
    half_y = 0.5 - trace.get("ygap", 0) * y_px / 2
    corners = ((-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y))
    cells = [[(x + dx, y + dy) for dx, dy in corners] for y in ys for x in xs]
    gapless = not trace.get("xgap")
    axes.add_collection(
        PolyCollection(
            [cell for cell, known in zip(cells, seen, strict=True) if known],
            facecolors=shades[seen],
            # Without a gap a thin line of the cell's own colour closes the seams.
            edgecolors=shades[seen] if gapless else "none",
            linewidths=0.4 * canvas.pt if gapless else 0,
            zorder=order,
            gid="cells",
        )
    )
    if trace.get("texttemplate"):
        _cell_texts(canvas, axes, trace, z, xs, ys, shades, order)
    key = shared or f"own{id(trace)}"
    if key not in bars and scale.get("showscale", trace.get("showscale", True)):
        bars.add(key)
        draw_colour_bar(canvas, dict(scale.get("colorbar") or {}), stops, low, high)


def _middles(trace: dict[str, Any], letter: str, n: int, canvas: Canvas) -> list[float]:
    """Where the middles of a heatmap's columns or rows lie."""
    if trace.get(letter) is None:
        return [float(at) for at in range(n)]
    return _numbers(trace, letter, canvas).tolist()


def _cell_texts(
    canvas: Canvas,
    axes: Axes,
    trace: dict[str, Any],
    z: np.ndarray,
    xs: list[float],
    ys: list[float],
    shades: np.ndarray,
    order: float,
) -> None:
    form = re.search(r"%\{z(?::([^}]*))?\}", trace["texttemplate"])
    style = canvas.text_style(trace.get("textfont"))
    for (row, column), value in np.ndenumerate(z):
        if not form or np.isnan(value):
            continue
        text = trace["texttemplate"].replace(form[0], format(value, form[1] or ""))
        bright = shades[row * len(xs) + column] @ (0.299, 0.587, 0.114) > 0.5
        own = dict(style)
        if not trace.get("textfont", {}).get("color"):
            own["color"] = "#000" if bright else "#fff"
        axes.text(xs[column], ys[row], text, ha="center", va="center", zorder=order + 0.005, **own)


def _scatter(canvas: Canvas, axes: Axes, trace: dict[str, Any], order: float) -> None:
    pt = canvas.pt
    x, y = (_numbers(trace, letter, canvas) for letter in "xy")
    mode = trace.get("mode") or ("lines+markers" if len(x) < 20 else "lines")
    line, marker = trace.get("line") or {}, trace.get("marker") or {}
    opacity = trace.get("opacity", 1)
    own = line.get("color") or marker.get("color") or trace["default_colour"]
    clip = bool(trace.get("cliponaxis", True))
    if trace.get("fill") == "toself":
        axes.fill(x, y, color=colour(trace.get("fillcolor", own)), linewidth=0, zorder=order)
    if "lines" in mode and line.get("width", 2) > 0:
        step = {"hv": "steps-post", "vh": "steps-pre"}.get(line.get("shape", ""), "default")
        axes.plot(
            x,
            y,
            color=colour(line.get("color") or trace["default_colour"]),
            linewidth=line.get("width", 2) * pt,
            linestyle=DASHES.get(line.get("dash", "solid"), "-"),
            drawstyle=step,
            alpha=opacity,
            zorder=order,
            solid_joinstyle="round",
            clip_on=clip,
        )
    for letter in "xy":
        _errors(canvas, axes, trace, letter, x, y, order)
    if "markers" in mode and len(x):
        style = marker_style(trace, pt)
        axes.plot(x, y, linestyle="none", zorder=order + 0.002, clip_on=clip, **style)
    if "text" in mode and trace.get("text") is not None:
        _point_texts(canvas, axes, trace, x, y, order + 0.004)


def marker_colour(trace: dict[str, Any]) -> Any:
    """The colour of a trace's markers: its own, else its line's, else the next of the colorway."""
    own = ((trace.get(part) or {}).get("color") for part in ("marker", "line"))
    return next((given for given in own if given is not None), trace["default_colour"])


def marker_style(trace: dict[str, Any], pt: float) -> dict[str, Any]:
    """A trace's marker as matplotlib's ``Line2D`` takes it."""
    marker = trace.get("marker") or {}
    symbol = marker.get("symbol", "circle")
    symbol = symbol if isinstance(symbol, (str, int)) else array(symbol).tolist()[0]
    name, is_open = str(symbol).removesuffix("-open"), str(symbol).endswith("-open")
    inside = colour(marker_colour(trace))
    rim = marker.get("line") or {}
    size = marker.get("size", 6)
    size = float(size if isinstance(size, (int, float)) else array(size).max())
    # plotly's diamonds and stars are larger than their size says.
    size *= {"diamond": 0.92, "star": 1.35, "x": 1.1, "triangle-up": 1.1, "triangle-down": 1.1}.get(
        name, 1.0
    )
    return {
        "marker": SYMBOLS[name],
        "markersize": size * pt,
        "markerfacecolor": "none" if is_open else inside,
        "markeredgecolor": inside if is_open else colour(rim.get("color", "#444")),
        "markeredgewidth": (rim.get("width", 1 if is_open else 0)) * pt,
        "alpha": marker.get("opacity", trace.get("opacity", 1)),
    }


def _errors(
    canvas: Canvas,
    axes: Axes,
    trace: dict[str, Any],
    letter: str,
    x: np.ndarray,
    y: np.ndarray,
    order: float,
) -> None:
    lengths = error_lengths(trace, letter)
    if lengths is None:
        return
    (down, up), bars = lengths, trace[f"error_{letter}"]
    shade = colour(bars.get("color") or marker_colour(trace))
    width = bars.get("thickness", 2) * canvas.pt
    if letter == "x":
        axes.hlines(y, x - down, x + up, color=shade, linewidth=width, zorder=order)
    else:
        axes.vlines(x, y - down, y + up, color=shade, linewidth=width, zorder=order)


def _point_texts(
    canvas: Canvas, axes: Axes, trace: dict[str, Any], x: np.ndarray, y: np.ndarray, order: float
) -> None:
    texts = trace["text"]
    texts = [texts] * len(x) if isinstance(texts, str) else list(array(texts))
    places = trace.get("textposition") or "middle center"
    places = [places] * len(x) if isinstance(places, str) else list(array(places))
    style = canvas.text_style(trace.get("textfont"))
    # Beside a mark, not on it.
    marks = "markers" in (trace.get("mode") or "")
    away = (float((trace.get("marker") or {}).get("size", 6)) / 2 + 3 if marks else 3) * canvas.pt
    for at, text in enumerate(texts):
        if np.isnan(x[at]) or np.isnan(y[at]):
            continue
        vertical, horizontal = str(places[at]).split(" ")
        dx = {"left": -away, "right": away}.get(horizontal, 0.0)
        dy = {"top": away, "bottom": -away}.get(vertical, 0.0)
        axes.annotate(
            str(text),
            (x[at], y[at]),
            (dx, dy),
            textcoords="offset points",
            ha={"left": "right", "right": "left"}.get(horizontal, "center"),
            va={"top": "bottom", "bottom": "top"}.get(vertical, "center"),
            zorder=order,
            **style,
        )


def _numbers(trace: dict[str, Any], letter: str, canvas: Canvas) -> np.ndarray:
    """Places along an axis, float64; NaN where a line breaks."""
    values = trace.get(letter)
    if values is None:
        n = len(array(trace["y" if letter == "x" else "x"]))
        return np.arange(n, dtype=float)
    found = array(values).tolist()
    if words := canvas.source.words[letter, trace.get(f"{letter}axis", letter)]:
        return np.array([words.index(str(v)) if v is not None else np.nan for v in found], float)
    return np.array([np.nan if v is None else float(v) for v in found], dtype=float)
