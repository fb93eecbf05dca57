"""Which kinds of tokens the strongest heads copy and suppress, as two small heatmaps."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.plots.style import FONT, INK, SCREEN_WIDTH, SEQUENTIAL, TEXT_PX, TITLE_PX
from analysis.plots.texts import as_plain


def plot_kinds(copied: pd.DataFrame, suppressed: pd.DataFrame, model: str) -> go.Figure:
    """Draw shares by kind of token.

    Args:
        copied: a row for each head, a column for each kind, float64 in [0, 1].
        suppressed: the same for suppression.
        model: the model's name, for the title.

    Returns:
        Two heatmaps on one scale from 0 to 1, each cell with its share in per cent.
    """
    titles = ["Tokens copied", "Tokens suppressed"]
    fig = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.1)
    for column, frame in enumerate((copied, suppressed), start=1):
        fig.add_trace(
            go.Heatmap(
                z=frame.round(3).to_numpy().tolist(),
                x=list(frame.columns),
                y=list(frame.index),
                coloraxis="coloraxis",
                texttemplate="%{z:.0%}",
                hovertemplate="head %{y}<br>%{x}<br>%{z:.1%}<extra></extra>",
            ),
            row=1,
            col=column,
        )
    fig.update_annotations(font_size=TITLE_PX)
    fig.update_layout(
        template="none",
        title={"text": f"{as_plain(model)}: kinds of tokens", "x": 0.5, "font_size": TITLE_PX},
        coloraxis={
            "colorscale": SEQUENTIAL,
            "cmin": 0,
            "cmax": 1,
            "colorbar": {"title": {"text": "share of tokens", "side": "right"}, "dtick": 0.2},
        },
        width=SCREEN_WIDTH,
        height=150 + 36 * max(len(copied), len(suppressed)) + 90,
        margin={"t": 80, "l": 70, "r": 110, "b": 90},
        font={"family": FONT, "size": TEXT_PX, "color": INK},
    )
    fig.update_yaxes(type="category", autorange="reversed", title="Head")
    fig.update_xaxes(tickangle=-30)
    return fig
