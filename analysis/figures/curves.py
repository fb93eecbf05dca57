"""What removing heads does, drawn: accuracy and log-probability against the number removed."""

from __future__ import annotations

import plotly.graph_objects as go

from analysis.ablation import AblationCurve
from analysis.figures.layout import SCREEN_WIDTH, TEXT_PX

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
"""Okabe and Ito's colours; each line also has its own dash and symbol."""
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")
_TITLES = {"accuracy": "Accuracy", "change": "Change of log-probability (nats)"}


def plot_ablation(
    curve: AblationCurve, column: str = "accuracy", *, title: str, width: float = SCREEN_WIDTH
) -> go.Figure:
    """A panel for each mode: the given heads, the random band, and the control tasks.

    Args:
        curve: what to draw.
        column: ``accuracy`` or ``change``.
        title: what stands above.
        width: of the figure in CSS pixels.
    """
    modes = list(dict.fromkeys(curve.frame.index.get_level_values("mode")))
    fig = go.Figure(
        layout=go.Layout(
            template="none",
            width=width,
            height=430,
            title={"text": title, "font": {"size": 16}, "x": 0.5},
            font={"size": TEXT_PX, "color": "black"},
            margin={"l": 65, "r": 20, "t": 60, "b": 115},
            legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.27},
            hovermode="closest",
        )
    )
    share = 1 / len(modes)
    for number, mode in enumerate(modes, 1):
        axes = {"xaxis": f"x{number}", "yaxis": f"y{number}", "showlegend": number == 1}
        for trace in _traces(curve, mode, column):
            fig.add_trace(trace.update(axes))
        start = (number - 1) * share
        fig.layout[f"xaxis{number}"] = {
            "domain": [start + (0.04 if number > 1 else 0), start + share - 0.02],
            "anchor": axes["yaxis"],
            "title": {"text": f"heads removed ({mode} ablation)"},
            "zeroline": False,
            "gridcolor": "#dddddd",
        }
        fig.layout[f"yaxis{number}"] = {
            "anchor": axes["xaxis"],
            "title": {"text": _TITLES[column]},
            "zeroline": column != "accuracy",
            "gridcolor": "#dddddd",
            "matches": "y" if number > 1 else None,
            **({"range": [-0.03, 1.03]} if column == "accuracy" else {}),
        }
    return fig


def _traces(curve: AblationCurve, mode: str, column: str) -> list[go.Scatter]:
    """Band and lines of one panel."""
    # To what holds from one processor to another: accuracies are shares of prompts, exactly so.
    digits = 3 if column == "accuracy" else 2
    band = curve.random_band(mode, column).round(digits)
    x = band.index.tolist()
    traces = [
        go.Scatter(
            x=x + x[::-1],
            y=band["high"].tolist() + band["low"].tolist()[::-1],
            mode="lines",
            fill="toself",
            fillcolor="rgba(119,119,119,0.3)",
            line={"width": 0},
            hoverinfo="skip",
            name="random heads, 5 % to 95 %",
        ),
        go.Scatter(
            x=x,
            y=band["mean"].tolist(),
            mode="lines",
            line={"color": "#555555", "width": 1},
            hovertemplate="random heads, %{x}: %{y:.3f}<extra></extra>",
            name="random heads, mean",
        ),
    ]
    for i, task in enumerate([curve.task, *curve.controls.index]):
        line = curve.given(mode, task)[column]
        note = " (chosen control)" if task == curve.control else ""
        last = ["none", *(f"{layer}.{head}" for layer, head in curve.heads)]
        traces.append(
            go.Scatter(
                x=line.index.tolist(),
                y=line.round(digits).tolist(),
                mode="lines+markers",
                line={"color": COLORS[i % len(COLORS)], "dash": _DASHES[i % len(_DASHES)]},
                marker={"symbol": _SYMBOLS[i % len(_SYMBOLS)], "size": 8},
                hovertext=[f"{task}: {n} removed, last {last[n]}" for n in line.index],
                hovertemplate="%{hovertext}<br>%{y:.3f}<extra></extra>",
                name=f"{task}{note}",
            )
        )
    return traces
