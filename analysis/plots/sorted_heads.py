"""Heads in order of score, each with its interval, the names of the best beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.heads import HeadPair, head_name
from analysis.plots.style import BLUE, GRID
from analysis.plots.texts import tick_step
from analysis.statistics import wilson_interval

N_NAMED = 10
_LINE = 0.056  # height of a name, in scores: a line of text in a panel of usual height
_NAME_ROOM = 0.35  # of the panel's width, for the names of the best heads


def sorted_traces(
    counts: np.ndarray, n_pairs: int, texts: Mapping[HeadPair, str], suffix: str
) -> list[go.Scatter]:
    """Points with 95 % intervals, and the names of the best with lines to their points.

    Of int64 counts ``[n_layers, n_heads]``, with what each head says on hovering.
    """
    flat = counts.ravel()
    order = np.argsort(-flat, kind="stable")
    score = flat[order] / n_pairs
    low, high = (end[order] for end in wilson_interval(flat, n_pairs))
    heads = [divmod(int(at), counts.shape[1]) for at in order]
    axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "showlegend": False}
    rank = np.arange(1, len(order) + 1)
    points = go.Scatter(
        x=rank.tolist(),
        y=score.tolist(),
        mode="markers",
        name="heads",
        marker={"color": BLUE, "size": 5, "line": {"width": 0}},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (high - score).clip(0).round(6).tolist(),
            "arrayminus": (score - low).clip(0).round(6).tolist(),
            "thickness": 1,
            "width": 0,
            "color": "#7fb8d8",
        },
        hovertext=[texts[head] for head in heads],
        hoverinfo="text",
        **axes,
    )
    named = [at for at in range(min(N_NAMED, len(order))) if flat[order[at]] > 0]
    heights = _apart([float(score[at]) for at in named])
    column = _column(len(order))
    xs: list[float | None] = []
    ys: list[float | None] = []
    for at, height in zip(named, heights, strict=True):
        xs += [float(rank[at]), column - 0.005 * len(order), None]
        ys += [float(score[at]), height, None]
    lines = go.Scatter(
        x=xs, y=ys, mode="lines", line={"color": "#999999", "width": 0.7}, hoverinfo="skip", **axes
    )
    names = go.Scatter(
        x=[column] * len(named),
        y=heights,
        mode="text",
        text=[f"{head_name(*heads[at])}  {score[at]:.2f}" for at in named],
        textposition="middle right",
        hoverinfo="skip",
        **axes,
    )
    return [points, lines, names]


def sorted_axes(n_heads: int, score_name: str) -> dict[str, dict[str, Any]]:
    """The axes of one panel, by ``x`` and ``y``."""
    start = 1 - 0.02 * n_heads - 0.5
    with_names = (_column(n_heads) - _NAME_ROOM * start) / (1 - _NAME_ROOM)
    return {
        "x": {
            "range": [start, max(n_heads * 1.01 + 0.5, with_names)],
            "tick0": 0,
            "dtick": int(max(1, tick_step(n_heads, 8))),
            "title": {"text": "Heads in order of score"},
        },
        "y": {
            "range": [-0.03, 1.05],
            "dtick": 0.2,
            "tickformat": ".1f",
            "showgrid": True,
            "gridcolor": GRID,
            "title": {"text": score_name},
        },
    }


def _column(n_heads: int) -> float:
    """Where the names of the best heads begin: right of their points."""
    return max(min(N_NAMED, n_heads), n_heads * 0.1) + 0.06 * n_heads


def _apart(heights: list[float]) -> list[float]:
    """Descending heights moved as little as keeps lines of text apart, between 0 and 1."""
    placed: list[float] = []
    for height in heights:
        placed.append(min(height, 1.0, placed[-1] - _LINE if placed else 1.0))
    least = 0.09  # above the intervals of heads whose score is 0
    for at in reversed(range(len(placed))):
        placed[at] = max(placed[at], least)
        least = placed[at] + _LINE
    return placed
