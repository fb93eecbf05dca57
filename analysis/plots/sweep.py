"""Scores of many models: over training, and side by side."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.heads import head_name
from analysis.plots.narrow import make_room_for_legend
from analysis.plots.style import (
    AXIS_STANDOFF,
    COLOURS,
    FONT,
    GREY,
    GRID,
    INK,
    SCREEN_WIDTH,
    TEXT_PX,
    TITLE_PX,
)
from analysis.plots.texts import as_plain
from analysis.static.head_scores import COPYING_SCORE, SUPPRESSION_SCORE
from analysis.sweeps.frames import STEP, model_labels, of_one_run, one_score_each

SCORES = {COPYING_SCORE: "Copying score", SUPPRESSION_SCORE: "Suppression score"}
N_NAMED = 5
"""Heads of a panel, at most, with a colour and a name: those that end highest, above 0."""
_LINE_COLOURS = tuple(colour for colour in COLOURS if colour != GREY)


def plot_over_training(scores: pd.DataFrame, title: str) -> go.Figure:
    """A line for each head: copying scores on the left, suppression scores on the right.

    A head that both panels name has one colour.

    Args:
        scores: of the checkpoints of one model: columns ``step``, ``layer``, ``head`` and the two
            scores, as ``report.sweep.with_steps`` gives it.
        title: of the figure, after the name of the run where ``scores`` say it (columns ``title``
            or ``model``).

    Raises:
        ParameterError: they are of several training runs, by the names in the column ``model``, or
            a head has no score or several at one step.
    """
    scores = of_one_run(scores)
    name = _run_name(scores)
    fig = _two_panels(": ".join(part for part in (name, title) if part), "training step")
    panels = [scores.pivot(index="step", columns=["layer", "head"], values=one) for one in SCORES]
    ends = [lines.iloc[-1].nlargest(N_NAMED) for lines in panels]
    named_heads = [end[end > 0].index for end in ends]
    places = {head: at for at, head in enumerate(named_heads[0].union(named_heads[1], sort=False))}
    for column, (lines, highest) in enumerate(zip(panels, named_heads, strict=True), start=1):
        for head in [*lines.columns.difference(highest), *highest[::-1]]:
            named = head in highest
            again, place = divmod(places[head] if named else 0, len(_LINE_COLOURS))
            trace = go.Scatter(
                x=lines.index.tolist(),
                y=lines[head].round(3).tolist(),
                mode="lines+markers" if named else "lines",
                line={
                    "color": _LINE_COLOURS[place] if named else "#bbbbbb",
                    "width": 2 if named else 1,
                    "dash": "dash" if again else "solid",
                },
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
            name = as_plain(str(model))
            in_template = name.replace("%", "&#37;")  # begins no variable
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
                name=name,
                showlegend=column == 1,
                text=names,
                hovertemplate=f"{in_template} <b>%{{text}}</b>: %{{y:.2f}}<extra></extra>",
            )
            fig.add_trace(trace, row=1, col=column)
    fig.update_layout(
        margin={"r": 20, "b": 90},
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.2},
    )
    make_room_for_legend(fig, SCREEN_WIDTH)
    return fig


def _run_name(scores: pd.DataFrame) -> str:
    """What the checkpoints of a run are called without their steps; nothing if they have no name.

    A title is taken where all have one, else the last part of the name that was asked for.
    """
    for column in ("title", "model"):
        if column in scores:
            names = scores[column].astype(str).str.replace(STEP, "", regex=True)
            names = names.str.rstrip(" /@-_.").str.rpartition("/")[2].unique()
            if len(names) == 1 and names[0]:
                return as_plain(names[0])
    return ""


def _two_panels(title: str, along: str) -> go.Figure:
    """Empty panels of the two scores, side by side; ``along`` is what runs from left to right."""
    fig = make_subplots(rows=1, cols=2, subplot_titles=list(SCORES.values()), shared_yaxes=True)
    below = {"text": along, "standoff": AXIS_STANDOFF}
    fig.update_xaxes(title=below, gridcolor=GRID, zeroline=False)
    fig.update_yaxes(range=[-0.03, 1.03], gridcolor=GRID, zeroline=False)
    return fig.update_layout(
        template="none",
        title={"text": title, "x": 0.5, "font": {"size": TITLE_PX}},
        font={"family": FONT, "size": TEXT_PX, "color": INK},
        width=SCREEN_WIDTH,
        height=400,
        margin={"l": 50, "t": 70},
    )
