"""What figures of lines and points share: colours, the frame, and a shaded band."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from analysis.plots.heatmap_layout import TEXT_PX

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
"""Okabe and Ito's colours, told apart by every kind of colour vision."""
GRID = "#dddddd"


def framed(title: str, width: float, height: float, *, below: float, legend_y: float) -> go.Figure:
    """An empty figure with a title above and a legend below.

    Args:
        title: what stands above.
        width: in CSS pixels.
        height: in CSS pixels.
        below: room under the panels, in CSS pixels.
        legend_y: where the legend begins, in heights of the panels.
    """
    return go.Figure(
        layout=go.Layout(
            template="none",
            width=width,
            height=height,
            title={"text": title, "font": {"size": 16}, "x": 0.5},
            font={"size": TEXT_PX, "color": "black"},
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
