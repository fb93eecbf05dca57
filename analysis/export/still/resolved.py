"""A plotly figure as plain dictionaries, with its template's defaults, ready to be drawn."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from analysis.plots.style import rgba

_COLORWAY = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2")
AXIS = re.compile(r"[xy]axis\d*")
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


@dataclass(frozen=True)
class Resolved:
    """A figure ready to be drawn.

    Attributes:
        layout: with the template's values where the figure has none.
        traces: the visible ones, each with its template's values and its default colour.
        width: in CSS pixels, and ``height``.
        margins: around the plot area.
        given: names of the layout that the figure itself has, and not its template alone.
    """

    layout: dict[str, Any]
    traces: tuple[dict[str, Any], ...]
    width: float
    height: float
    margins: Margins
    given: frozenset[str]

    def font(self, *parts: Mapping[str, Any] | None, scale: float = 1.0) -> dict[str, Any]:
        """The font of a text: the figure's, ``scale`` times as large, under those given."""
        whole = {"family": "sans-serif", "size": 12, "color": "#444"} | self.layout.get("font", {})
        whole["size"] *= scale
        for part in parts:
            whole |= {k: v for k, v in (part or {}).items() if v is not None}
        return whole

    def axis(self, letter: str, reference: str | None) -> dict[str, Any]:
        """An axis of the layout; those that match have one range, and one way to find it."""
        reference = reference or letter
        onto = self.matched(letter, reference)
        names = [name for name in self.layout if AXIS.fullmatch(name) and name[0] == letter]
        others = sorted((letter + name[5:] for name in names), key=lambda one: int(one[1:] or 1))
        shared: dict[str, Any] = {}
        for one in (onto, *others):
            if self.matched(letter, one) == onto:
                found = self._of_layout(letter, one)
                shared = {k: found[k] for k in ("range", "autorange") if found.get(k)} | shared
        return self._of_layout(letter, reference) | shared

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

    @cached_property
    def words(self) -> dict[tuple[str, str], list[str]]:
        """By letter and reference of each axis that is used, its words; none along numbers."""
        used = {(one, trace.get(f"{one}axis", one)) for trace in self.traces for one in "xy"}
        return {one: _words(self.axis(*one), self.shown_along(*one), one[0]) for one in used}


def _words(axis: Mapping[str, Any], traces: list[dict[str, Any]], letter: str) -> list[str]:
    words: dict[str, None] = {}
    for trace in traces:
        values = trace.get(letter)
        known = [] if values is None else [v for v in array(values).tolist() if v is not None]
        numbers = all(isinstance(value, (int, float)) for value in known)
        if axis.get("type") == "category" or not numbers:
            words |= dict.fromkeys(map(str, known))
    return list(words)


def resolve(fig: go.Figure) -> Resolved:
    """A figure as plain dictionaries."""
    whole = fig.to_plotly_json()
    own = whole.get("layout", {})
    template = own.get("template") or {}
    layout = _merged(template.get("layout", {}), own)
    for name in {name for name in own if AXIS.fullmatch(name)} | {"xaxis", "yaxis"}:
        base = template.get("layout", {}).get(name[:5], {})
        layout[name] = _merged(base, own.get(name, {}))
    usual = layout.get("annotationdefaults") or {}
    layout["annotations"] = [_merged(usual, note) for note in layout.get("annotations") or ()]
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
        given=frozenset(own),
    )


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


def grid(z: Any) -> np.ndarray:
    """A heatmap's values, float64 ``[rows, columns]``; NaN where there is none."""
    rows = array(z) if isinstance(z, Mapping) else [array(row) for row in z]
    return array([row.astype(float) for row in rows])


def colour(text: Any) -> Any:
    """One of plotly's colours as matplotlib takes it."""
    return rgba(text) if isinstance(text, str) and "(" in text else text


def colours_on(colorscale: Any, shares: np.ndarray) -> np.ndarray:
    """Colours ``[n, 3]`` in [0, 1] at places from 0 to 1 of a scale of (place, colour) pairs.

    Figures hold every scale so. Translucent colours lie on white paper.
    """
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
