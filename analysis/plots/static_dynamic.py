"""Static against dynamic scores, a point for each head, copying left and suppression right.

The points are dynamic scores pooled over templates. The dashed diagonal is equality, the full line
the least-squares fit; heads far off the line (studentized residual above 3) are marked and named,
and every point names its head on hovering. The line has no band: a few heads copy much and scatter
most, so that the usual one covers the line less often than it says
(``tests/dynamic/test_coverage.py``).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.dynamic.agreement import OUTLIER, head_table
from analysis.errors import ParameterError
from analysis.heads import head_name
from analysis.plots.style import AXIS_STANDOFF, BLUE, GRID, SCREEN_WIDTH, VERMILION, framed
from analysis.static.head_scores import COPYING_SCORE, RELATION_SCORE, SUPPRESSION_SCORE

_NAMES = {
    COPYING_SCORE: ("Name copying", "Suppression of names"),
    RELATION_SCORE: ("Pairs answered", "Pairs suppressed"),
}

MIN_HEADS = 3
"""Through fewer points every line fits."""


def plot_static_dynamic(static: pd.DataFrame, dynamic: pd.DataFrame, *, title: str) -> go.Figure:
    """Draw both scatter plots.

    Args:
        static: ``HeadScores.to_frame(intervals=True)``.
        dynamic: ``DynamicScores.to_frame()`` of one context, the level ``context`` gone.
        title: what stands above, such as the model and the context.

    Raises:
        ParameterError: as ``compared_columns`` raises it.
    """
    kinds = compared_columns(static, dynamic)
    names = dict(zip(kinds, _NAMES[kinds[0]], strict=True))
    fig = framed(title, SCREEN_WIDTH, SCREEN_WIDTH * 0.5, below=90, legend_y=-0.16)
    for number, kind in enumerate(kinds):
        axes = {"xaxis": f"x{number + 1}", "yaxis": f"y{number + 1}", "showlegend": number == 0}
        for trace in _traces(head_table(static, dynamic, kind)):
            fig.add_trace(trace.update(axes))
        axis = {"range": [-0.04, 1.04], "dtick": 0.2, "zeroline": False, "gridcolor": GRID}
        side = [0, 0.46] if number == 0 else [0.54, 1]
        fig.layout[f"xaxis{number + 1}"] = axis | {
            "domain": side,
            "anchor": axes["yaxis"],
            "title": {"text": f"{names[kind]}, from the weights", "standoff": AXIS_STANDOFF},
        }
        fig.layout[f"yaxis{number + 1}"] = axis | {
            "anchor": axes["xaxis"],
            "title": {"text": "when the model runs"},
        }
    return fig


def compared_columns(static: pd.DataFrame, dynamic: pd.DataFrame) -> tuple[str, str]:
    """The columns of the two scores that both frames hold, of names copied or another relation.

    Raises:
        ParameterError: the frames hold no such scores, or fewer than ``MIN_HEADS`` heads.
    """
    for kinds in ((COPYING_SCORE, SUPPRESSION_SCORE), (RELATION_SCORE, SUPPRESSION_SCORE)):
        ends = {f"{kind}_{end}" for kind in kinds for end in ("low", "high")}
        if {*kinds, *ends} <= set(static) and set(kinds) <= set(dynamic):
            break
    else:
        raise ParameterError(
            "static and dynamic scores must be frames of the same names or pairs, the static one "
            "made by to_frame(intervals=True)."
        )
    if len(static) < MIN_HEADS:
        raise ParameterError(
            f"a line needs {MIN_HEADS} heads or more, and the model has {len(static)}."
        )
    return kinds


def _traces(table: pd.DataFrame) -> list[go.Scatter]:
    """Lines and points of one panel."""
    line = table.sort_values("static").drop_duplicates("static")
    names = np.array([head_name(*head) for head in table.index])
    outlier = (table["residual"].abs() > OUTLIER).to_numpy()
    return [
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line={"color": "#777777", "width": 1, "dash": "dash"},
            hoverinfo="skip",
            name="equal scores",
        ),
        go.Scatter(
            x=line["static"].round(6).tolist(),
            y=line["fitted"].round(6).tolist(),
            mode="lines",
            line={"color": "black", "width": 1.5},
            hoverinfo="skip",
            name="least squares",
        ),
        _points(table[~outlier], names[~outlier], "head", BLUE, "circle"),
        _points(table[outlier], names[outlier], "head off the line", VERMILION, "diamond", True),
    ]


def _points(
    table: pd.DataFrame,
    names: np.ndarray,
    label: str,
    color: str,
    symbol: str,
    named: bool = False,
) -> go.Scatter:
    """Heads as points with their intervals, and their names beside them where wanted."""
    text = [
        f"<b>{name}</b><br>weights {row.static:.3f} ({row.low:.3f} to {row.high:.3f})"
        f"<br>running {row.dynamic:.3f}<br>fitted {row.fitted:.3f}"
        for name, row in zip(names, table.itertuples(), strict=True)
    ]
    return go.Scatter(
        x=table["static"].round(6).tolist(),
        y=table["dynamic"].round(6).tolist(),
        mode="markers+text" if named else "markers",
        text=names.tolist() if named else None,
        textposition=_beside(table["dynamic"]) if named else None,
        textfont={"size": 11},
        marker={
            "color": color,
            "symbol": symbol,
            "size": 8,
            "line": {"color": "white", "width": 0.7},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": (table["high"] - table["static"]).round(6).tolist(),
            "arrayminus": (table["static"] - table["low"]).round(6).tolist(),
            "thickness": 1,
            "width": 0,
        },
        hovertext=text,
        hoverinfo="text",
        name=label,
    )


def _beside(heights: pd.Series) -> list[str]:
    """Above and below in turn, from the highest point down, so that near ones do not meet."""
    order = heights.rank(ascending=False, method="first").astype(int)
    return ["top right" if place % 2 else "bottom right" for place in order]
