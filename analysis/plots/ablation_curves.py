"""What removing heads does, drawn: accuracy and log-probability against the number removed."""

from __future__ import annotations

import plotly.graph_objects as go

from analysis.ablation.curve import AblationCurve
from analysis.heads import head_name
from analysis.plots.style import COLOURS, GRID, SCREEN_WIDTH, band, framed

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")
_TITLES = {"accuracy": "Accuracy", "change": "Change of log-probability (nats)"}


def plot_ablation(curve: AblationCurve, column: str = "accuracy", *, title: str) -> go.Figure:
    """A panel for each mode: the given heads, the random band, and the control tasks.

    Every point of a task has its 95 % interval over prompts.

    Args:
        curve: what to draw.
        column: ``accuracy`` or ``change``.
        title: what stands above.
    """
    modes = curve.modes
    fig = framed(title, SCREEN_WIDTH, 430, below=115, legend_y=-0.27)
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
            "gridcolor": GRID,
            "tickvals": curve.given(mode).index.tolist(),  # no half heads
        }
        fig.layout[f"yaxis{number}"] = {
            "anchor": axes["xaxis"],
            "title": {"text": _TITLES[column]},
            "zeroline": column != "accuracy",
            "gridcolor": GRID,
            "matches": "y" if number > 1 else None,
            **({"range": [-0.03, 1.03]} if column == "accuracy" else {}),
        }
    return fig


def _traces(curve: AblationCurve, mode: str, column: str) -> list[go.Scatter]:
    """Band and lines of one panel."""
    # To what holds from one processor to another: accuracies are shares of prompts, exactly so.
    digits = 3 if column == "accuracy" else 2
    area = curve.random_band(mode, column).round(digits)
    x = area.index.tolist()
    traces = [
        band(x, area["low"].tolist(), area["high"].tolist(), "random heads, 5 % to 95 %"),
        go.Scatter(
            x=x,
            y=area["mean"].tolist(),
            mode="lines",
            line={"color": "#555555", "width": 1},
            hovertemplate="random heads, %{x}: %{y:.3f}<extra></extra>",
            name="random heads, mean",
        ),
    ]
    for i, task in enumerate([curve.task, *curve.controls.index]):
        rows = curve.given(mode, task)[[column, f"{column}_low", f"{column}_high"]].round(digits)
        line, low, high = (rows[name] for name in rows)
        note = " (chosen control)" if task == curve.control else ""
        last = ["none", *(head_name(*head) for head in curve.heads)]
        colour = COLOURS[i % len(COLOURS)]
        traces.append(
            go.Scatter(
                x=line.index.tolist(),
                y=line.tolist(),
                mode="lines+markers",
                line={"color": colour, "dash": _DASHES[i % len(_DASHES)]},
                marker={"symbol": _SYMBOLS[i % len(_SYMBOLS)], "size": 8},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": (high - line).round(digits).tolist(),
                    "arrayminus": (line - low).round(digits).tolist(),
                    "color": colour,
                    "thickness": 1,
                    "width": 3,
                },
                hovertext=[
                    f"{task}: {n} removed, last {last[n]}<br>{at:.3f}, 95 % interval "
                    f"{least:.3f} to {most:.3f}"
                    for n, at, least, most in zip(line.index, line, low, high, strict=True)
                ],
                hovertemplate="%{hovertext}<extra></extra>",
                name=f"{task}{note}{', 95 % intervals' if i == 0 else ''}",
            )
        )
    return traces
