"""The figure: name copying and its suppression, head by head, side by side.

1. Two heatmaps over layer (x) and head (y), on one fixed scale from 0 to 1, so that figures of
   different models compare.
2. Over them, the heads that *Interpretability in the Wild* named, where the model has any, or those
   measured here, or both: on the left those that move names, on the right those that suppress them.
3. Every cell tells on hovering which head it is, how many names counted, and its class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.heads import head_name
from analysis.ioi.head_classes import (
    MEASURED,
    ORIGINS,
    PUBLISHED,
    HeadClass,
    check_classes,
    published_classes,
)
from analysis.plots.heatmap_layout import SCREEN_WIDTH, lay_out
from analysis.static.head_scores import HeadScores
from analysis.statistics import wilson_interval
from analysis.validation import check_type

LEGEND_TITLE = "'Interp. in the Wild' classifications"
MEASURED_TITLE = "Measured on the indirect-object task"
BOTH_TITLE = "'Interp. in the Wild' and measured classifications"
MEASURED_COLOUR = "#ff3b30"
"""Apart from every colour of the scale; the marks are open and larger, around published ones."""


@dataclass(frozen=True)
class _Overlay:
    """The heads that one panel marks from one origin.

    Attributes:
        origin: of the classes.
        movers: heads drawn as the first kind of mark, and ``backups`` those drawn as the second.
        mover_label: what the legend calls the first, and ``backup_label`` the second.
    """

    origin: str
    movers: pd.MultiIndex
    mover_label: str
    backups: pd.MultiIndex
    backup_label: str


@dataclass(frozen=True)
class _Panel:
    """One of the two heatmaps.

    Attributes:
        counts: int64 ``[n_layers, n_heads]``, names (pairs) that counted for each head.
        subject: what stands above it, after the model's title.
        score_name: what the colour bar measures.
        overlays: its marks, the published ones last and so on top.
    """

    counts: np.ndarray
    subject: str
    score_name: str
    overlays: tuple[_Overlay, ...]


class HeatmapFigure(go.Figure):  # type: ignore[misc]
    """A plotly figure that remembers the scores it shows, so that an export can write them."""

    _scores: HeadScores | None = None

    @property
    def scores(self) -> HeadScores | None:
        """The scores that the figure shows; a copy of the figure does not know them."""
        return self._scores


def plot_heatmaps(
    scores: HeadScores, classes: pd.DataFrame | None = None, *, width: float = SCREEN_WIDTH
) -> HeatmapFigure:
    """Draw copying (left) and suppression (right) of every head.

    Args:
        scores: what to draw.
        classes: named heads to mark, as :func:`analysis.ioi.head_classes.published_classes` or
            ``analysis.ioi.measured_classes.measured_classes`` returns them, or both one after the
            other (``pd.concat``); None marks the published ones of the scores' model, a frame
            without rows marks none.
        width: of the figure in CSS pixels; its height follows.

    Returns:
        An interactive figure of two panels.

    Raises:
        ClassesError: the classes belong to another model.
        ParameterError: the scores or classes are something else.
    """
    check_type("scores", scores, HeadScores, "score_heads")
    if classes is None:
        classes = published_classes(scores.model)
    check_type("classes", classes, pd.DataFrame, "published_classes or measured_classes")
    check_classes(classes, scores.model, scores.n_layers, scores.n_heads)
    panels = _panels(scores, classes)
    fig = HeatmapFigure(layout=_layout(panels, scores.model.title))
    for number, panel in enumerate(panels):
        fig.add_trace(_heatmap(panel, number, scores, classes))
    for number, panel in enumerate(panels):
        for overlay in panel.overlays:
            fig.add_traces(_markers(overlay, number))
    lay_out(fig, width)
    fig._scores = scores
    return fig


def _panels(scores: HeadScores, classes: pd.DataFrame) -> tuple[_Panel, _Panel]:
    """What each of the two panels shows."""
    copying = scores.relation == "copying"
    kind = "Name Copying score" if copying else "Relation score"
    subject = "Name-Copying heads" if copying else "Relation scores"
    overlays = [
        _overlays(origin, classes[classes["origin"] == origin], scores)
        for origin in (MEASURED, PUBLISHED)
        if (classes["origin"] == origin).any()
    ]
    left = _Panel(scores.n_in_top_k, subject, kind, tuple(overlay[0] for overlay in overlays))
    right = _Panel(
        counts=scores.n_in_bottom_k,
        subject=f"(Suppression) {subject}",
        score_name=f"(Suppression) {kind}",
        overlays=tuple(overlay[1] for overlay in overlays),
    )
    return left, right


def _overlays(origin: str, classes: pd.DataFrame, scores: HeadScores) -> tuple[_Overlay, _Overlay]:
    """What the left and the right panel mark of one origin's classes."""
    backups = _heads(classes, HeadClass.BACKUP_NAME_MOVER)
    if origin == PUBLISHED:
        # The published circuit has one backup class. Its heads that suppress belong to the right.
        suppresses = [
            bool(scores.n_in_bottom_k[head] > scores.n_in_top_k[head]) for head in backups
        ]
        negative_backups = backups[np.array(suppresses, dtype=bool)]
    else:
        negative_backups = _heads(classes, HeadClass.BACKUP_NEGATIVE_NAME_MOVER)
    prefix = "" if origin == PUBLISHED else "Measured "
    left = _Overlay(
        origin=origin,
        movers=_heads(classes, HeadClass.NAME_MOVER),
        mover_label=f"{prefix}Name-Mover Heads",
        backups=backups,
        backup_label=f"{prefix}Backup Name-Mover Heads",
    )
    right = _Overlay(
        origin=origin,
        movers=_heads(classes, HeadClass.NEGATIVE_NAME_MOVER),
        mover_label=f"{prefix}(Negative) Name-Mover Heads",
        backups=negative_backups,
        backup_label=f"{prefix}Backup (Negative) Name-Mover Heads",
    )
    return left, right


def _heads(classes: pd.DataFrame, head_class: HeadClass) -> pd.MultiIndex:
    """The (layer, head) pairs of one class."""
    return classes.index[classes["class"] == head_class]


def _heatmap(panel: _Panel, number: int, scores: HeadScores, classes: pd.DataFrame) -> go.Heatmap:
    """One panel's cells; plotly wants rows of y, so heads come first."""
    return go.Heatmap(
        z=(panel.counts / scores.n_pairs).T.tolist(),
        hovertext=_hover_texts(panel, scores, classes),
        hovertemplate="%{hovertext}<extra></extra>",
        xaxis=_axis("x", number),
        yaxis=_axis("y", number),
        zmin=0,
        zmax=1,
        colorscale="Viridis",
        colorbar={
            "title": {"text": panel.score_name, "side": "right", "font": {"size": 14}},
            "tick0": 0,
            "dtick": 0.2,
            "tickformat": ".1f",
            "ticksuffix": " ",  # keeps the upright title off the numbers
            "ticks": "outside",
            "ticklen": 4,
            "thickness": 14,
            "len": 1,
            "xpad": 8,
            "ypad": 0,
            "outlinewidth": 0,
        },
    )


def _hover_texts(panel: _Panel, scores: HeadScores, classes: pd.DataFrame) -> list[list[str]]:
    """What each cell says on hovering, head by head of each layer, as plotly's rows are."""
    unit = "names" if scores.relation == "copying" else "pairs"
    named: dict[tuple[str, tuple[int, int]], list[str]] = {}
    for head, origin, head_class in zip(
        classes.index, classes["origin"], classes["class"], strict=True
    ):
        named.setdefault((origin, head), []).append(head_class)
    origins = [origin for origin in ORIGINS if (classes["origin"] == origin).any()]

    low, high = wilson_interval(panel.counts, scores.n_pairs)

    def text(layer: int, head: int) -> str:
        count = int(panel.counts[layer, head])
        lines = [
            f"<b>{head_name(layer, head)}</b>",
            f"{panel.score_name} {count / scores.n_pairs:.3f}",
            f"{count} of {scores.n_pairs} {unit}",
            f"95 % interval {low[layer, head]:.3f} to {high[layer, head]:.3f}",
        ]
        for origin in origins:
            what = "class" if origin == PUBLISHED else "measured class"
            known = named.get((origin, (layer, head)), [f"none {origin}"])
            lines.append(f"{what}: {', '.join(known)}")
        return "<br>".join(lines)

    return [
        [text(layer, head) for layer in range(scores.n_layers)] for head in range(scores.n_heads)
    ]


def _markers(overlay: _Overlay, number: int) -> tuple[go.Scatter, go.Scatter]:
    """One overlay's marks: both kinds are always in the legend, though no head may be of one."""
    movers = _scatter(overlay.movers, overlay.mover_label, number)
    backups = _scatter(overlay.backups, overlay.backup_label, number)
    if overlay.origin == MEASURED:
        line = {"width": 2.5}
        movers.marker.update(symbol="square-open", color=MEASURED_COLOUR, line=line)
        backups.marker.update(symbol="diamond-open", color=MEASURED_COLOUR, line=line)
        movers.legendrank = backups.legendrank = 1001  # below the published ones
        return movers, backups
    # The rims keep black apart from dark purple and green from green, in grey print too.
    movers.marker.update(symbol="x", color="black", line={"color": "white", "width": 1.2})
    rim = {"color": "black", "width": 1.2}
    backups.marker.update(symbol="circle", color="lightgreen", line=rim)
    return movers, backups


def _scatter(heads: pd.MultiIndex, label: str, number: int) -> go.Scatter:
    """Marks over some heads that let the cell below answer to hovering."""
    pairs = list(heads) or [(None, None)]  # a trace without points would leave the legend
    return go.Scatter(
        x=[layer for layer, _ in pairs],
        y=[head for _, head in pairs],
        mode="markers",
        name=label,
        hoverinfo="skip",
        xaxis=_axis("x", number),
        yaxis=_axis("y", number),
        legend=_axis("legend", number),
    )


def _layout(panels: tuple[_Panel, _Panel], model: str) -> go.Layout:
    """Everything that does not depend on the figure's width."""
    title = {"xref": "paper", "yref": "paper", "y": 1, "yshift": 6, "showarrow": False}
    title |= {"xanchor": "center", "yanchor": "bottom"}
    legend = {
        "title": {"text": _legend_title(panels[0]), "font": {"size": 14}},
        "xanchor": "center",
        "yanchor": "top",
        "bordercolor": "#bbbbbb",
        "borderwidth": 1,
        "itemsizing": "constant",
    }
    heads, layers = panels[0].counts.T.shape
    axis = {"showgrid": False, "zeroline": False, "ticks": "outside", "tick0": 0, "dtick": 1}
    axis |= {"tickangle": 0, "title": {"standoff": 6, "font": {"size": 14}}}
    x = axis | {"range": [-0.5, layers - 0.5]}
    y = axis | {"range": [-0.5, heads - 0.5]}
    layout = go.Layout(
        template="none",
        paper_bgcolor="white",
        plot_bgcolor="white",
        hovermode="closest",
        modebar={"remove": ["select", "lasso", "zoomin", "zoomout", "autoscale"]},
        meta={"panel_titles": [[model, panel.subject] for panel in panels]},
        annotations=[title, title],
        xaxis=x | {"anchor": "y"},
        yaxis=y | {"anchor": "x"},
        # One zoom moves both panels, so that the same heads stay side by side.
        xaxis2=x | {"anchor": "y2", "matches": "x"},
        yaxis2=y | {"anchor": "x2", "matches": "y"},
        legend=legend,
        legend2=legend,
    )
    layout.update({f"xaxis{n}_title_text": "Layer" for n in ("", "2")})
    layout.update({f"yaxis{n}_title_text": "Head" for n in ("", "2")})
    return layout


def _legend_title(panel: _Panel) -> str:
    """Whose classes are marked."""
    origins = {overlay.origin for overlay in panel.overlays}
    if MEASURED not in origins:
        return LEGEND_TITLE
    return BOTH_TITLE if PUBLISHED in origins else MEASURED_TITLE


def _axis(kind: str, number: int) -> str:
    """Plotly's name of a panel's axis or legend: the first has no number."""
    return kind if number == 0 else f"{kind}2"
