"""Scores of many models: over training, and side by side."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.heads import head_name
from analysis.plots.style import COLOURS, FONT, GRID, INK, SCREEN_WIDTH, TEXT_PX, TITLE_PX
from analysis.plots.texts import as_plain
from analysis.static.head_scores import COPYING_SCORE, SUPPRESSION_SCORE
from analysis.sweeps.frames import model_labels, of_one_run, one_score_each

SCORES = {COPYING_SCORE: "Copying score", SUPPRESSION_SCORE: "Suppression score"}
N_NAMED = 5
"""Heads of a panel that have a colour and a name: those that end highest."""


def plot_over_training(scores: pd.DataFrame, title: str) -> go.Figure:
    """A line for each head: copying scores on the left, suppression scores on the right.

    Args:
        scores: of the checkpoints of one model: columns ``step``, ``layer``, ``head`` and the two
            scores, as ``report.sweep.with_steps`` gives it.
        title: of the figure.

    Raises:
        ParameterError: they are of several training runs, by the names in the column ``model``, or
            a head has no score or several at one step.
    """
    scores = of_one_run(scores)
    fig = _two_panels(title, "training step")
    for column, score in enumerate(SCORES, start=1):
        lines = scores.pivot(index="step", columns=["layer", "head"], values=score)
        highest = lines.iloc[-1].nlargest(N_NAMED).index
        for head in [*lines.columns.difference(highest), *highest[::-1]]:
            named = head in highest
            place = highest.get_loc(head) if named else 0
            trace = go.Scatter(
                x=lines.index.tolist(),
                y=lines[head].round(3).tolist(),
                mode="lines+markers" if named else "lines",
                line={"color": COLOURS[place] if named else "#bbbbbb", "width": 2 if named else 1},
                name=head_name(*head),
                legend="legend" if column == 1 else "legend2",
                showlegend=named,
                hovertemplate=f"<b>{head_name(*head)}</b>, step %{{x}}: %{{y:.2f}}<extra></extra>",
            )
            fig.add_trace(trace, row=1, col=column)
    return fig.update_layout(
        margin={"r": 20, "b": 50},
        # Scores are near 0 before training, so that this corner of a panel is free.
        legend={"x": 0.01, "y": 1, "xanchor": "left", "traceorder": "reversed"},
        legend2={"x": 0.56, "y": 1, "xanchor": "left", "traceorder": "reversed"},
    )


def plot_by_depth(scores: pd.DataFrame, title: str) -> go.Figure:
    """A point for each head, its score over the depth of its layer; a colour for each model.

    Args:
        scores: columns ``model`` and ``title``, or one of them, ``layer``, ``head``, ``n_layers``
            and the two scores, as ``sweep_frame`` gives it. A model is called by its title, or by
            the name that it was asked for by where others have that title.
        title: of the figure.

    Raises:
        ParameterError: no row has the scores, or a head has several.
    """
    scores = one_score_each(scores, "model" if "model" in scores else "title")
    labels = model_labels(scores)
    fig = _two_panels(title, "depth of the layer (0 first, 1 last)")
    for column, score in enumerate(SCORES, start=1):
        for place, (model, heads) in enumerate(scores.groupby(labels, sort=False)):
            depth = heads["layer"] / (heads["n_layers"] - 1).clip(lower=1)
            names = [head_name(*pair) for pair in zip(heads["layer"], heads["head"], strict=True)]
            trace = go.Scatter(
                x=depth.round(3).tolist(),
                y=heads[score].round(3).tolist(),
                mode="markers",
                marker={
                    "color": COLOURS[place % len(COLOURS)],
                    "symbol": ("circle", "diamond", "square", "x", "cross")[place % 5],
                    "size": 7,
                    "opacity": 0.7,
                },
                name=as_plain(str(model)),
                showlegend=column == 1,
                text=names,
                hovertemplate=f"{_in_template(model)} <b>%{{text}}</b>: %{{y:.2f}}<extra></extra>",
            )
            fig.add_trace(trace, row=1, col=column)
    return fig.update_layout(
        margin={"r": 20, "b": 90},
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.2},
    )


def _in_template(model: object) -> str:
    """A model's name in a hover template, in which it is neither markup nor a variable."""
    return as_plain(str(model)).replace("%", "&#37;")


def _two_panels(title: str, along: str) -> go.Figure:
    """Empty panels of the two scores, side by side; ``along`` is what runs from left to right."""
    fig = make_subplots(rows=1, cols=2, subplot_titles=list(SCORES.values()), shared_yaxes=True)
    fig.update_xaxes(title=along, gridcolor=GRID, zeroline=False)
    fig.update_yaxes(range=[-0.03, 1.03], gridcolor=GRID, zeroline=False)
    return fig.update_layout(
        template="none",
        title={"text": title, "x": 0.5, "font": {"size": TITLE_PX}},
        font={"family": FONT, "size": TEXT_PX, "color": INK},
        width=SCREEN_WIDTH,
        height=400,
        margin={"l": 50, "t": 70},
    )
