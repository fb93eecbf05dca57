"""Titles, axes and legends of the heatmap figure: what does not depend on its width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from analysis.errors import ParameterError
from analysis.plots.heatmap_panels import Panel
from analysis.plots.marks import legend_title
from analysis.plots.style import FRAME, GAP, INK, PAPER, QUIET, TEXT_PX, TITLE_PX, axis_suffix
from analysis.plots.texts import as_plain
from analysis.static.head_scores import HeadScores
from analysis.validation import shown

FEW_PAIRS = 30
"""Fewer pairs than a data set needs (see the method); the figure says so."""


def subtitle(scores: HeadScores, dots: str) -> dict[str, Any]:
    """The line that says what was scored, and what dots of a colour mean, if there are any.

    It is bold where few names or pairs were asked about.
    """
    few = scores.n_pairs < FEW_PAIRS
    count = f"{scores.n_pairs:,} of {scores.pairs.n_given:,} {scores.pairs.kind}"
    if few:
        count = f"only {scores.n_pairs} {scores.pairs.unit}"
    parts = [
        as_plain(scores.model.title),
        f"k = {scores.k}",
        "with first MLP" if scores.first_mlp else "without first MLP",
        count,
    ]
    if dots:
        parts.append(
            f"{'white' if dots == PAPER else 'black'} dot: above 0, too small for its colour"
        )
    line = " · ".join(parts)
    return {
        "name": "subtitle",
        "text": f"<b>{line}</b>" if few else line,
        "xref": "paper",
        "yref": "paper",
        "x": 0.5,
        "xanchor": "center",
        "yanchor": "top",
        "showarrow": False,
        "font": {"size": TEXT_PX, "color": QUIET},
    }


def frame_of(
    panels: Sequence[Panel],
    font: object,
    heading: str | None,
) -> go.Layout:
    """Everything that does not depend on the figure's width."""
    if not isinstance(font, str) or not font.strip():
        raise ParameterError(f"font must be the name of a font, not {shown(font)}.")
    note = {"xref": "paper", "yref": "paper", "yshift": 4, "showarrow": False}
    note |= {"xanchor": "center", "yanchor": "bottom", "font": {"size": TITLE_PX}}
    layout = go.Layout(
        template="none",
        paper_bgcolor=PAPER,
        plot_bgcolor=GAP,
        font={"family": font, "size": TEXT_PX, "color": INK},
        title={"x": 0.5, "xanchor": "center", "yanchor": "top", "font": {"size": TITLE_PX + 2}},
        hovermode="closest",
        modebar={"remove": ["select", "lasso", "zoomin", "zoomout", "autoscale"]},
        annotations=[
            note | {"name": f"title {number}", "text": panel.title}
            for number, panel in enumerate(panels)
        ],
    )
    if heading is not None:
        layout.title.text = heading
    axis = {"showgrid": False, "zeroline": False, "ticks": "outside", "tick0": 0, "dtick": 1}
    axis |= {"tickangle": 0, "title": {"standoff": 6, "font": {"size": 14}}}
    for number, panel in enumerate(panels):
        suffix = axis_suffix(number)
        n_layers, n_heads = panel.counts.shape
        for x, y, title, n in (("x", "y", "Layer", n_layers), ("y", "x", "Head", n_heads)):
            # One zoom moves both panels, so that the same heads stay side by side.
            linked = {"matches": x} if number else {}
            ends = {"anchor": f"{y}{suffix}", "range": [-0.5, n - 0.5]}
            layout[f"{x}axis{suffix}"] = axis | linked | ends
            layout[f"{x}axis{suffix}"].title.text = title
        layout[f"legend{suffix}"] = {
            "title": {"text": legend_title(panel.sets), "font": {"size": 14}},
            "xanchor": "center",
            "yanchor": "top",
            "bordercolor": FRAME,
            "borderwidth": 1,
            "itemsizing": "constant",
        }
    return layout


def update_axes(fig: go.Figure, number: int, axes: Mapping[str, Mapping[str, Any]]) -> None:
    """Set values of one panel's axes, given by ``x`` and ``y``."""
    for name, values in axes.items():
        fig.layout[f"{name}axis{axis_suffix(number)}"].update(values)
