"""The figure: name copying and its suppression, head by head, side by side.

1. Two heatmaps over layer (x) and head (y), on one fixed scale from 0 to 1, so that figures of
   different models compare. A dot marks scores above 0 that their colour cannot tell from 0.
2. Over them, the heads that *Interpretability in the Wild* named, where the model has any, or those
   measured here, or both, or the reader's own: on the left those that move names, on the right
   those that suppress them.
3. One line under the title says what was scored, and every cell tells on hovering which head it
   is, how many names counted, and its class.

``view="sorted"`` draws the same scores as points, from the highest to the lowest, without marks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.errors import ParameterError
from analysis.heads import HeadPair
from analysis.ioi.head_classes import published_classes
from analysis.names import are_shipped
from analysis.plots.colour_scale import colour_scale
from analysis.plots.heatmap_frame import frame_of, subtitle, update_axes
from analysis.plots.heatmap_layout import ARRANGEMENTS, check_width, lay_out
from analysis.plots.heatmap_panels import dots, heatmaps, markers, panel_of, sorted_points
from analysis.plots.marks import own_classes, own_sets, with_marks
from analysis.plots.sorted_heads import sorted_axes
from analysis.plots.style import FONT, PAPER, SCREEN_WIDTH
from analysis.provenance import timeless
from analysis.static.head_scores import HeadScores
from analysis.validation import check_choice, check_list, check_type, shown

PANELS = ("copying", "suppression")
VIEWS = ("grid", "sorted")


def plot_heatmaps(
    scores: HeadScores,
    classes: pd.DataFrame | None = None,
    *,
    panels: Sequence[str] = PANELS,
    view: str = "grid",
    arrangement: str = "auto",
    marks: Mapping[str, Iterable[HeadPair]] | None = None,
    scale: str = "linear",
    vmin: float | None = None,
    vmax: float | None = None,
    title: str | Sequence[str] | None = None,
    colorscale: str | Sequence[Any] | None = None,
    font: str = FONT,
    width: float = SCREEN_WIDTH,
) -> go.Figure:
    """Draw copying (left) and suppression (right) of every head.

    Whatever is changed on the figure afterwards (titles, fonts, sizes, colours) is kept by every
    format of ``export_figure``.

    Args:
        scores: what to draw.
        classes: named heads to mark, as :func:`analysis.ioi.head_classes.published_classes` or
            ``analysis.ioi.measured_classes.measured_classes`` returns them, or both one after the
            other (``pd.concat``), or of the same columns with classes of your own; None marks the
            published ones of the scores' model, a frame without rows marks none.
        panels: ``copying``, ``suppression`` or both.
        view: ``grid`` for heatmaps, ``sorted`` for heads in order of score with 95 % intervals,
            which shows neither colours nor marks.
        arrangement: ``side by side``, ``stacked``, or ``auto``: stacked under 700 pixels.
        marks: heads of your own to mark, by what the legend calls them:
            ``{"my circuit": [(23, 2), (24, 4)]}``; no class of yours may have such a name.
        scale: of the colours: ``linear``, ``sqrt`` (lifts small scores) or ``rank``.
        vmin: the score at the lower end of the colour bar; 0 if None.
        vmax: the score at its upper end; 1 if None.
        title: a heading above the whole figure; of a figure with one panel, the panel's title. A
            list gives each panel's title.
        colorscale: plotly's name of one, or a list of colours; the paper's purple to yellow if
            None.
        font: family, or several separated by commas.
        width: of the figure in CSS pixels; its height follows.

    Returns:
        An interactive figure. ``layout.meta["scores"]`` holds the counts that it shows and what
        made them.

    Raises:
        ClassesError: the classes belong to another model, or have no name.
        ParameterError: a parameter is not one of those above, or the view does not show it.
    """
    check_type("scores", scores, HeadScores, "score_heads")
    given = classes
    if classes is None:
        classes = published_classes(scores.model)
    check_type("classes", classes, pd.DataFrame, "published_classes or measured_classes")
    own = own_sets(with_marks(own_classes(classes, scores), marks), scores.n_layers, scores.n_heads)
    names = _checked_panels(panels)
    check_choice("view", view, VIEWS)
    check_choice("arrangement", arrangement, ARRANGEMENTS)
    check_width(width)
    colours = colour_scale(scale, vmin, vmax)
    if view == "sorted":
        _refuse_unseen(
            classes=given is not None and len(given) > 0,
            marks=bool(marks),
            scale=scale != "linear",
            vmin=vmin is not None,
            vmax=vmax is not None,
            colorscale=colorscale is not None,
        )
    heading, titles = _titles(title, len(names))
    drawn = [panel_of(scores, classes, name, titles[at], own) for at, name in enumerate(names)]

    fig = go.Figure(layout=frame_of(drawn, font, heading))
    dot_colour = ""
    if view == "sorted":
        fig.add_traces(sorted_points(drawn, scores))
        for number, panel in enumerate(drawn):
            update_axes(fig, number, sorted_axes(panel.counts.size, panel.score_name))
        fig.layout.plot_bgcolor = PAPER
    else:
        fig.add_traces(heatmaps(drawn, colours, colorscale, scores, classes))
        dotted = dots(fig, drawn, colours)
        fig.add_traces(dotted)
        dot_colour = next((trace.marker.color for trace in dotted if len(trace.x)), "")
        one_legend = all(panel.sets == drawn[0].sets for panel in drawn)
        for number, panel in enumerate(drawn):
            fig.add_traces(markers(panel.sets, number, in_legend=not (one_legend and number)))
    fig.add_annotation(subtitle(scores, dot_colour))
    fig.layout.meta = {
        "panels": list(names),
        "arrangement": arrangement,
        "scores": facts_of(scores),
    }
    lay_out(fig, width)
    return fig


def _refuse_unseen(**given: bool) -> None:
    """Refuse what the sorted view cannot show; each parameter by whether it asks for something."""
    unseen = [name for name, asked in given.items() if asked]
    if unseen:
        raise ParameterError(
            f"view='sorted' shows neither colours nor marks: leave out {', '.join(unseen)}, or "
            "take view='grid'."
        )


def _checked_panels(panels: object) -> tuple[str, ...]:
    """The panels' names, each once."""
    names = (panels,) if isinstance(panels, str) else tuple(check_list("panels", panels))
    for name in names:
        check_choice("panels", name, PANELS)
    if not names or len(set(names)) < len(names):
        raise ParameterError(f"panels must be some of {', '.join(PANELS)}, not {shown(panels)}.")
    return names


def _titles(title: object, n_panels: int) -> tuple[str | None, list[str | None]]:
    """The heading and the panels' own titles, None where the usual ones stand."""
    if title is None:
        return None, [None] * n_panels
    if isinstance(title, str):
        return (None, [title]) if n_panels == 1 else (title, [None] * n_panels)
    given = check_list("title", title, "texts")
    if len(given) != n_panels or not all(isinstance(one, str) for one in given):
        raise ParameterError(
            f"title must be a text, or a list of {n_panels}, one for each panel, not "
            f"{shown(title)}."
        )
    return None, given


def facts_of(scores: HeadScores) -> dict[str, Any]:
    """The counts that the figure shows and what made them.

    Returns:
        Plain values, counts as lists ``[n_layers][n_heads]``; ``layout.meta["scores"]`` of a figure
        holds them, so that a copy of it can still be exported with its data.
    """
    return {
        "model": asdict(scores.model),
        "relation": scores.relation,
        "k": scores.k,
        "first_mlp": scores.first_mlp,
        "n_pairs": scores.n_pairs,
        "n_given": scores.pairs.n_given,
        "pairs_sha256": scores.pairs.checksum,
        "shipped_names": are_shipped(scores.pairs),
        "n_layers": scores.n_layers,
        "n_heads": scores.n_heads,
        "n_in_top_k": scores.n_in_top_k.tolist(),
        "n_in_bottom_k": scores.n_in_bottom_k.tolist(),
        "provenance": timeless(scores.provenance),
    }
