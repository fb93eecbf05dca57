"""Figures of the indirect-object task: direct effects, attention against output, agreement.

Numbers are rounded to what can be seen, so that a run on another machine gives the same figure.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.heads import head_name
from analysis.plots.narrow import share_x_title
from analysis.plots.style import (
    AXIS_STANDOFF,
    BLUE,
    COLOURS,
    DIVERGING,
    SCREEN_WIDTH,
    VERMILION,
    framed,
)

_AXIS = {
    "showgrid": False,
    "zeroline": False,
    "showline": True,
    "linecolor": "#444444",
    "ticks": "outside",
}


def plot_direct_effects(
    numbers: pd.DataFrame, title: str, columns: dict[str, str] | None = None
) -> go.Figure:
    """Heatmaps of effects in logits, one above the other, white at zero and on one scale.

    Args:
        numbers: indexed by ``layer`` and ``head``.
        title: of the figure.
        columns: what stands above each heatmap, by the column of ``numbers`` that it shows; the
            direct effect alone if None.
    """
    columns = {"direct_effect": ""} if columns is None else columns
    fig = make_subplots(
        rows=len(columns),
        cols=1,
        subplot_titles=list(columns.values()),
        shared_xaxes=True,
        vertical_spacing=0.1,
    )
    largest = round(float(numbers[list(columns)].abs().fillna(0).max().max()), 3) or 1.0
    for row, column in enumerate(columns, start=1):
        grid = numbers[column].unstack("layer")
        fig.add_trace(
            go.Heatmap(
                z=grid.round(3).to_numpy().tolist(),
                zmin=-largest,
                zmax=largest,
                colorscale=[list(stop) for stop in DIVERGING],
                showscale=row == 1,
                colorbar={"title": {"text": "Effect<br>(logits)", "side": "top"}},
                hovertemplate="<b>%{x}.%{y}</b><br>%{z:+.3f} logits<extra></extra>",
            ),
            row=row,
            col=1,
        )
    n_heads = len(grid)
    height = 110 + len(columns) * max(220, 22 * n_heads)
    _frame(fig, title, height, {"l": 60, "r": 110, "t": 70, "b": 50})
    fig.update_xaxes(**_AXIS, tick0=0, dtick=1 if grid.shape[1] <= 32 else 5)
    fig.update_xaxes(title_text="Layer", row=len(columns), col=1)
    fig.update_yaxes(**_AXIS, tick0=0, dtick=1 if n_heads <= 16 else 5, title_text="Head")
    return fig


def plot_attention_against_output(points: pd.DataFrame, title: str) -> go.Figure:
    """What heads write for a name against how much END attends to it, a panel for each head.

    Args:
        points: from ``analysis.ioi.attention.attention_points``.
        title: of the figure.
    """
    heads = [
        (int(layer), int(head))
        for layer, head in points[["layer", "head"]].drop_duplicates().to_numpy()
    ]
    fig = make_subplots(
        rows=1,
        cols=max(len(heads), 1),
        shared_yaxes=True,
        subplot_titles=[head_name(*head) for head in heads],
        horizontal_spacing=0.02,
    )
    looks = {"IO": (BLUE, "circle"), "S": (VERMILION, "x")}
    for col, (layer, head) in enumerate(heads, start=1):
        of_head = points[(points["layer"] == layer) & (points["head"] == head)]
        for name, (colour, symbol) in looks.items():
            of_name = of_head[of_head["name"] == name].round({"attention": 3, "written": 2})
            fig.add_trace(
                go.Scatter(
                    x=of_name["attention"].tolist(),
                    y=of_name["written"].tolist(),
                    mode="markers",
                    name=name,
                    legendgroup=name,
                    showlegend=col == 1,
                    marker={"color": colour, "symbol": symbol, "size": 5, "opacity": 0.6},
                    hovertemplate="attention %{x:.2f}<br>%{y:+.2f} logits<extra>"
                    + name
                    + "</extra>",
                ),
                row=1,
                col=col,
            )
    _frame(fig, title, 385, {"l": 70, "r": 20, "t": 80, "b": 85})
    ticks = {"tickvals": [0, 0.5, 1], "ticktext": ["0", "0.5", "1"]}
    fig.update_xaxes(**_AXIS, **ticks, range=[-0.03, 1.03])
    if heads:
        share_x_title(fig, "Attention to the name")
    fig.update_yaxes(**_AXIS | {"zeroline": True}, zerolinecolor="#bbbbbb")
    fig.update_yaxes(title_text="Logit written for the name", col=1)
    return fig


def plot_precision_recall(curves: dict[str, pd.DataFrame], title: str) -> go.Figure:
    """Precision against recall of several scores, a panel for each class.

    A step for each recall that is reached, at the precision with which it is first reached. Scores
    that coincide show as stripes, the first on top and the thinnest. The panel of a class without
    heads says so.

    Args:
        curves: by what stands above the panel, frames of
            ``analysis.ioi.class_agreement.precision_recall``; all of the same scores.
        title: of the figure.
    """
    fig = make_subplots(
        rows=1, cols=max(len(curves), 1), shared_yaxes=True, subplot_titles=list(curves)
    )
    first = next((col for col, frame in enumerate(curves.values(), 1) if len(frame)), None)
    for col, frame in enumerate(curves.values(), start=1):
        if not len(frame):
            fig.add_trace(go.Scatter(x=[], y=[], showlegend=False), row=1, col=col)  # has axes
            fig.add_annotation(
                text="no head is in this class", x=0.5, y=0.5, showarrow=False, row=1, col=col
            )
        of_scores = list(enumerate(frame.groupby("score", sort=False)))
        for number, (name, whole) in reversed(of_scores):
            curve = _steps(whole)
            fig.add_trace(
                go.Scatter(
                    x=curve["recall"].tolist(),
                    y=curve["precision"].tolist(),
                    mode="lines",
                    name=str(name),
                    legendgroup=str(name),
                    legendrank=number + 1,
                    showlegend=col == first,
                    line={
                        "color": COLOURS[number % len(COLOURS)],
                        "width": 3 + 2 * number,
                        "shape": "vh",
                    },
                    customdata=curve["threshold"].round(6).tolist(),
                    hovertemplate="score ≥ %{customdata:.3g}<br>precision %{y:.2f}, "
                    "recall %{x:.2f}<extra>" + str(name) + "</extra>",
                ),
                row=1,
                col=col,
            )
    _frame(fig, title, 445, {"l": 70, "r": 20, "t": 80, "b": 85})
    fig.update_xaxes(**_AXIS, range=[-0.03, 1.03])
    fig.update_xaxes(title_text="Recall", title_standoff=AXIS_STANDOFF)
    fig.update_yaxes(**_AXIS, range=[-0.03, 1.03])
    fig.update_yaxes(title_text="Precision", col=1)
    return fig


def _frame(fig: go.Figure, title: str, height: float, margin: dict[str, float]) -> None:
    """Title, fonts and sizes, the legend under the panels."""
    room = height - margin["t"] - margin["b"]
    frame = framed(title, SCREEN_WIDTH, height, below=margin["b"], legend_y=-50 / room)
    fig.update_layout(frame.layout.to_plotly_json() | {"margin": margin, "template": "none"})


def _steps(curve: pd.DataFrame) -> pd.DataFrame:
    """The cut-offs at which the recall grows, begun at a recall of 0."""
    reached = curve[curve["recall"] > 0].drop_duplicates("recall")
    return pd.concat([reached.iloc[:1].assign(recall=0.0), reached])
