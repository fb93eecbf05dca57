"""A plotly figure as plain dictionaries, with its template's defaults, ready to be drawn."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from analysis.plots.style import rgba

_COLORWAY = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2")
_AXIS = re.compile(r"[xy]axis\d*")
SYMBOLS = {
    "circle": "o", "square": "s", "diamond": "D", "cross": "P", "x": "X", "triangle-up": "^",
    "triangle-down": "v", "triangle-left": "<", "triangle-right": ">", "pentagon": "p",
    "hexagon": "h", "hexagon2": "H", "star": "*", "octagon": "8",
}  # fmt: skip
"""matplotlib's letter of each of plotly's symbols that can be drawn, filled or ``-open``."""


class Margins(NamedTuple):
    """Room around the plot area in CSS pixels."""

    left: float
    right: float
    top: float
    bottom: float


_PLAIN_AXES: dict[str, tuple[object, ...]] = {
    "rangemode": ("normal",),
    "autorange": (True, False, "reversed"),
    "scaleanchor": (False,),
    "minallowed": (),
    "maxallowed": (),
    "autorangeoptions": ({},),
}
"""Settings that change what an axis shows, with the values that are drawn here."""


@dataclass(frozen=True)
class Resolved:
    """A figure ready to be drawn.

    Attributes:
        layout: with the template's values where the figure has none.
        traces: the visible ones, each with its template's values and its default colour.
        width: in CSS pixels, and ``height``.
        margins: around the plot area.
    """

    layout: dict[str, Any]
    traces: tuple[dict[str, Any], ...]
    width: float
    height: float
    margins: Margins

    def font(self, *parts: Mapping[str, Any] | None, scale: float = 1.0) -> dict[str, Any]:
        """The font of a text: the figure's, ``scale`` times as large, under those given."""
        whole = {"family": "sans-serif", "size": 12, "color": "#444"} | self.layout.get("font", {})
        whole["size"] *= scale
        for part in parts:
            whole |= {k: v for k, v in (part or {}).items() if v is not None}
        return whole

    def axis(self, letter: str, reference: str | None) -> dict[str, Any]:
        """An axis of the layout, with the range of the one that it matches.

        Args:
            letter: ``x`` or ``y``.
            reference: a trace's, such as ``x2``.
        """
        followed = self._of_layout(letter, self.matched(letter, reference or letter))
        ranges = {"range": followed["range"]} if "range" in followed else {}
        return ranges | self._of_layout(letter, reference or letter)

    def _of_layout(self, letter: str, reference: str) -> dict[str, Any]:
        found: dict[str, Any] = self.layout.get(f"{letter}axis{reference[1:]}", {})
        return found

    def matched(self, letter: str, reference: str) -> str:
        """The axis that an axis follows by ``matches``, or itself."""
        followed = [reference]
        while onto := self._of_layout(letter, followed[-1]).get("matches"):
            if onto in followed:
                break
            followed.append(onto)
        return followed[-1]

    def shown_along(self, letter: str, reference: str) -> list[dict[str, Any]]:
        """The traces that decide what an axis shows: its own, and those of all that match it."""
        onto = self.matched(letter, reference)
        return [
            trace
            for trace in self.traces
            if self.matched(letter, trace.get(f"{letter}axis", letter)) == onto
        ]


def resolve(fig: go.Figure) -> Resolved:
    """A figure as plain dictionaries.

    Args:
        fig: any plotly figure.
    """
    whole = fig.to_plotly_json()
    own = whole.get("layout", {})
    template = own.get("template") or {}
    layout = _merged(template.get("layout", {}), own)
    for name in {name for name in own if _AXIS.fullmatch(name)} | {"xaxis", "yaxis"}:
        base = template.get("layout", {}).get(name[:5], {})
        layout[name] = _merged(base, own.get(name, {}))
    colorway = layout.get("colorway") or _COLORWAY
    traces = []
    for number, raw in enumerate(whole.get("data", [])):
        of_kind = template.get("data", {}).get(raw.get("type", "scatter"), [{}])
        trace = _merged(of_kind[number % len(of_kind)] if of_kind else {}, raw)
        trace["default_colour"] = colorway[number % len(colorway)]
        if trace.get("visible", True) is True:
            traces.append(trace)
    margin = {"l": 80, "r": 80, "t": 100, "b": 80} | layout.get("margin", {})
    return Resolved(
        layout=layout,
        traces=tuple(traces),
        width=float(layout.get("width") or 700),
        height=float(layout.get("height") or 450),
        margins=Margins(*(float(margin[side]) for side in "lrtb")),
    )


def cannot_draw(figure: Resolved) -> list[str]:
    """What of a figure only a browser draws, in words; nothing for this package's figures.

    Args:
        figure: what is to be drawn.
    """
    found: list[str] = []
    for trace in figure.traces:
        kind = trace.get("type", "scatter")
        if kind not in ("heatmap", "scatter"):
            found.append(f"traces of type {kind}")
            continue
        marker = trace.get("marker") or {}
        symbols = marker.get("symbol", "circle")
        symbols = [symbols] if isinstance(symbols, (str, int)) else list(symbols)
        found += [
            f"the symbol {symbol}"
            for symbol in symbols
            if str(symbol).removesuffix("-open") not in SYMBOLS
        ]
        if kind == "scatter":
            if trace.get("fill", "none") not in ("none", "toself"):
                found.append(f"fill={trace['fill']}")
            if not isinstance(marker.get("color", ""), str) or marker.get("colorscale"):
                found.append("markers of many colours")
            if (trace.get("line") or {}).get("shape", "linear") not in ("linear", "hv", "vh"):
                found.append("curved lines")
    for name, value in figure.layout.items():
        if _AXIS.fullmatch(name):
            if value.get("type", "linear") not in ("linear", "category", "-"):
                found.append(f"{value['type']} axes")
            found += [
                f"{setting}={value[setting]!r} of an axis"
                for setting, plain_values in _PLAIN_AXES.items()
                if value.get(setting) not in (None, *plain_values)
            ]
        elif (name in ("shapes", "images", "updatemenus", "sliders") and value) or (
            name in ("scene", "geo", "polar", "ternary", "map", "mapbox", "grid") and value
        ):
            found.append(name)
    for note in figure.layout.get("annotations") or ():
        if "domain" in f"{note.get('xref')} {note.get('yref')}" or note.get("textangle"):
            found.append("turned annotations, or those placed by an axis's domain")
    return sorted(set(found))


def plain(text: object) -> str:
    """A text without plotly's markup, its breaks as line breaks."""
    broken = re.sub(r"<br\s*/?>", "\n", str(text or ""))
    return html.unescape(re.sub(r"</?[a-zA-Z][^>]*>", "", broken))


def error_lengths(trace: dict[str, Any], letter: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Lengths of a trace's error bars along x or y, down and up; None where none are shown."""
    bars = trace.get(f"error_{letter}") or {}
    if bars.get("array") is None or bars.get("visible") is False:
        return None
    up = array(bars["array"]).astype(float)
    below = bars.get("arrayminus")
    return (up if below is None else array(below).astype(float)), up


def array(values: Any) -> np.ndarray:
    """Numbers or texts of a trace, however plotly holds them."""
    if isinstance(values, Mapping) and "bdata" in values:
        flat = np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])
        shape = values.get("shape")
        return flat.reshape([int(n) for n in str(shape).split(",")]) if shape else flat
    return np.asarray(list(values) if isinstance(values, Sequence) else values)


def colour(text: Any) -> Any:
    """One of plotly's colours as matplotlib takes it."""
    return rgba(text) if isinstance(text, str) and "(" in text else text


def colours_on(colorscale: Any, shares: np.ndarray) -> np.ndarray:
    """Colours ``[n, 3]`` in [0, 1] at places from 0 to 1 of a colour scale, on white paper."""
    from plotly.colors import get_colorscale

    if isinstance(colorscale, str):
        colorscale = get_colorscale(colorscale)
    stops = [float(stop) for stop, _ in colorscale]
    colours = np.array([rgba(text) for _, text in colorscale])
    rgb = colours[:, 3:] * colours[:, :3] + (1 - colours[:, 3:])
    clipped = np.clip(shares, 0.0, 1.0)
    return np.stack([np.interp(clipped, stops, rgb[:, part]) for part in range(3)], axis=-1)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested dictionaries as one; ``over`` wins."""
    both = dict(under)
    for name, value in over.items():
        if isinstance(value, Mapping) and isinstance(both.get(name), Mapping):
            both[name] = _merged(both[name], value)
        elif value is not None:
            both[name] = dict(value) if isinstance(value, Mapping) else value
    return both
