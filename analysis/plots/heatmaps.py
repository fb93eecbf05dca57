"""The figure: name copying and its suppression, head by head, side by side.

1. Two heatmaps over layer (x) and head (y), on one fixed scale from 0 to 1, so that figures of
   different models compare. A dot marks scores above 0 that their colour cannot tell from 0.
2. Over them, the heads that *Interpretability in the Wild* named, where the model has any, or those
   measured here, or both, or the reader's own: on the left those that move names, on the right
   those that suppress them.
3. One line under the title says what was scored, and every cell tells on hovering which head it
   is, how many names counted, and its class.

``view="sorted"`` draws the same scores as points, from the highest to the lowest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.errors import ParameterError
from analysis.heads import HeadPair, head_name
from analysis.ioi.head_classes import ORIGINS, PUBLISHED, published_classes
from analysis.plots import marks as mark_sets
from analysis.plots.colour_scale import ColourScale, colour_scale
from analysis.plots.heatmap_layout import ARRANGEMENTS, as_plain, check_width, lay_out
from analysis.plots.sorted_heads import sorted_axes, sorted_traces
from analysis.plots.style import FONT, GAP, INK, PAPER, SCREEN_WIDTH, SEQUENTIAL, TEXT_PX, TITLE_PX
from analysis.provenance import timeless
from analysis.static.head_scores import HeadScores
from analysis.statistics import wilson_interval
from analysis.validation import check_choice, check_list, check_type, shown

PANELS = ("copying", "suppression")
VIEWS = ("grid", "sorted")
FEW_PAIRS = 30
"""Fewer pairs than a data set needs (see the method); the figure says so."""
_TOO_DARK = 0.1  # of the colour bar: below, a cell is hard to tell from one at the bar's end


@dataclass(frozen=True)
class _Panel:
    """One of the heatmaps.

    Attributes:
        counts: int64 ``[n_layers, n_heads]``, names (pairs) that counted for each head.
        title: what stands above it.
        score_name: what the colour bar measures.
        sets: its marks, later ones on top.
    """

    counts: np.ndarray
    title: str
    score_name: str
    sets: tuple[mark_sets.HeadSet, ...]


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
        view: ``grid`` for heatmaps, ``sorted`` for heads in order of score with 95 % intervals.
        arrangement: ``side by side``, ``stacked``, or ``auto``: stacked under 700 pixels.
        marks: heads of your own to mark, by what the legend calls them:
            ``{"my circuit": [(23, 2), (24, 4)]}``.
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
        ParameterError: a parameter is not one of those above.
    """
    check_type("scores", scores, HeadScores, "score_heads")
    if classes is None:
        classes = published_classes(scores.model)
    check_type("classes", classes, pd.DataFrame, "published_classes or measured_classes")
    own: dict[str, Iterable[HeadPair]] = dict(mark_sets.own_classes(classes, scores))
    if marks is not None and isinstance(marks, Mapping):
        own = {**marks, **own}
    own_sets = mark_sets.own_sets(own if marks is None or own else marks, *_shape(scores))
    names = _checked_panels(panels)
    check_choice("view", view, VIEWS)
    check_choice("arrangement", arrangement, ARRANGEMENTS)
    check_width(width)
    colours = colour_scale(scale, vmin, vmax)
    heading, titles = _titles(title, len(names))
    drawn = [_panel(scores, classes, name, titles[at], own_sets) for at, name in enumerate(names)]

    fig = go.Figure(layout=_layout(drawn, scores, classes, own_sets, font, heading))
    if view == "sorted":
        fig.add_traces(_sorted(drawn, scores))
        for number in range(len(drawn)):
            _update_axes(
                fig, number, sorted_axes(drawn[number].counts.size, drawn[number].score_name)
            )
        fig.layout.plot_bgcolor = PAPER
        dots = False
    else:
        fig.add_traces(_heatmaps(drawn, colours, colorscale, scores, classes))
        dotted = _dots(fig, drawn, colours)
        fig.add_traces(dotted)
        dots = any(len(trace.x) for trace in dotted)
        for number, panel in enumerate(drawn):
            fig.add_traces(_markers(panel.sets, number, in_legend=not _shared(drawn) or not number))
    fig.add_annotation(_subtitle(scores, dots))
    fig.layout.meta = {
        "panels": list(names),
        "arrangement": arrangement,
        "scores": facts_of(scores),
    }
    lay_out(fig, width)
    return fig


def _shape(scores: HeadScores) -> tuple[int, int]:
    return scores.n_layers, scores.n_heads


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


def _panel(
    scores: HeadScores,
    classes: pd.DataFrame,
    name: str,
    title: str | None,
    own: tuple[mark_sets.HeadSet, ...],
) -> _Panel:
    """What one panel shows."""
    copying = scores.relation == "copying"
    kind = "Name Copying score" if copying else "Relation score"
    subject = "Name-Copying heads" if copying else "Relation scores"
    suppression = name == "suppression"
    sign = "(Suppression) " if suppression else ""
    return _Panel(
        counts=scores.n_in_bottom_k if suppression else scores.n_in_top_k,
        title=title or f"{as_plain(scores.model.title)}: {sign}{subject}",
        score_name=f"{sign}{kind}",
        sets=mark_sets.class_sets(scores, classes, suppression=suppression) + own,
    )


def _shared(panels: Sequence[_Panel]) -> bool:
    """Whether one legend serves both panels."""
    return len(panels) > 1 and panels[0].sets == panels[1].sets


def _heatmaps(
    panels: Sequence[_Panel],
    colours: ColourScale,
    colorscale: object,
    scores: HeadScores,
    classes: pd.DataFrame,
) -> list[go.Heatmap]:
    """The grids, one for each panel."""
    zmin, zmax = colours.ends()
    traces = []
    for number, panel in enumerate(panels):
        values = panel.counts / scores.n_pairs
        places, labels = colours.ticks(values)
        plain = colours == ColourScale()
        try:
            heatmap = go.Heatmap(
                # plotly's rows are heads, from the bottom up
                z=colours.places(values).T.tolist(),
                xaxis=f"x{_suffix(number)}",
                yaxis=f"y{_suffix(number)}",
                hovertext=_hover_texts(panel, scores, classes),
                hoverinfo="text",
                zmin=zmin,
                zmax=zmax,
                colorscale=SEQUENTIAL if colorscale is None else colorscale,
                colorbar={
                    "title": {"text": panel.score_name, "side": "right", "font": {"size": 14}},
                    **(
                        {"tick0": 0, "dtick": 0.2, "tickformat": ".1f"}
                        if plain
                        else {"tickmode": "array", "tickvals": places, "ticktext": labels}
                    ),
                    "ticksuffix": " ",  # keeps the upright title off the numbers
                    "ticks": "outside",
                    "ticklen": 4,
                    "thickness": 14,
                    "xpad": 8,
                    "ypad": 0,
                    "outlinewidth": 0,
                    "yanchor": "middle",
                },
            )
        except Exception:  # plotly raises what its validators stumble on
            raise ParameterError(
                "colorscale must be a name that plotly knows, such as 'Viridis' or 'Cividis', or a "
                f"list of colours, not {shown(colorscale)}."
            ) from None
        traces.append(heatmap)
    return traces


def _dots(fig: go.Figure, panels: Sequence[_Panel], colours: ColourScale) -> list[go.Scatter]:
    """A dot on every head whose score is above 0, and whose colour does not show it."""
    traces = []
    for number, panel in enumerate(panels):
        heatmap = fig.data[number]
        places = np.array(heatmap.z, dtype=float).T
        low, high = colours.ends()
        hidden = (panel.counts > 0) & ((places - low) / (high - low) < _TOO_DARK)
        heads = [(int(layer), int(head)) for layer, head in np.argwhere(hidden)]
        trace = _scatter(heads, "above 0", number, "dot", 1.0, in_legend=False)
        dark = _luminance(heatmap.colorscale[0][1]) < 0.4
        trace.marker.update(symbol="circle", color=PAPER if dark else INK, line={"width": 0})
        traces.append(trace)
    return traces


def _luminance(colour: str) -> float:
    """Share of white, of a colour as hexadecimal digits or ``rgb(...)``; 0 if it is neither."""
    digits = colour.lstrip("#")
    if colour.startswith("#") and len(digits) == 6:
        parts = [int(digits[at : at + 2], 16) for at in (0, 2, 4)]
    elif colour.startswith("rgb("):
        parts = [int(float(part)) for part in colour[4:-1].split(",")]
    else:
        return 0.0
    return (0.299 * parts[0] + 0.587 * parts[1] + 0.114 * parts[2]) / 255


def _hover_texts(panel: _Panel, scores: HeadScores, classes: pd.DataFrame) -> list[list[str]]:
    """What each cell says on hovering, head by head of each layer, as plotly's rows are."""
    texts = _head_texts(panel, scores)
    named: dict[tuple[str, HeadPair], list[str]] = {}
    for head, origin, head_class in zip(
        classes.index, classes["origin"], classes["class"], strict=True
    ):
        named.setdefault((origin, head), []).append(as_plain(str(head_class)))
    for origin in (origin for origin in ORIGINS if (classes["origin"] == origin).any()):
        what = "class" if origin == PUBLISHED else "measured class"
        for head, text in texts.items():
            known = named.get((origin, head), [f"none {origin}"])
            texts[head] = f"{text}<br>{what}: {', '.join(known)}"
    return [
        [texts[layer, head] for layer in range(scores.n_layers)] for head in range(scores.n_heads)
    ]


def _head_texts(panel: _Panel, scores: HeadScores) -> dict[HeadPair, str]:
    """Name, score, count and interval of every head."""
    unit = "names" if scores.relation == "copying" else "pairs"
    low, high = wilson_interval(panel.counts, scores.n_pairs)
    return {
        (layer, head): f"<b>{head_name(layer, head)}</b>"
        f"<br>{panel.score_name} {count / scores.n_pairs:.3f}"
        f"<br>{count} of {scores.n_pairs} {unit}"
        f"<br>95 % interval {low[layer, head]:.3f} to {high[layer, head]:.3f}"
        for (layer, head), count in np.ndenumerate(panel.counts)
    }


def _sorted(panels: Sequence[_Panel], scores: HeadScores) -> list[go.Scatter]:
    """The traces of the sorted view: the points of all panels first."""
    of_each = [
        sorted_traces(panel.counts, scores.n_pairs, _head_texts(panel, scores), _suffix(number))
        for number, panel in enumerate(panels)
    ]
    return [traces[0] for traces in of_each] + [trace for traces in of_each for trace in traces[1:]]


def _markers(
    sets: Sequence[mark_sets.HeadSet], number: int, *, in_legend: bool
) -> list[go.Scatter]:
    """One panel's marks; below each open one lies a wider white one, its halo."""
    traces = []
    for one in sets:
        look = one.look
        trace = _scatter(one.heads, one.label, number, "mark", look.size, in_legend=in_legend)
        if look.is_open:
            halo = go.Scatter(trace).update(name="halo", showlegend=False)
            halo.marker.update(symbol=look.symbol, color=PAPER, line={"width": 5})
            traces.append(halo)
            trace.marker.update(symbol=look.symbol, color=look.colour, line={"width": 2.5})
        else:
            rim = {"color": look.edge, "width": 1.2}
            trace.marker.update(symbol=look.symbol, color=look.colour, line=rim)
        traces.append(trace)
    return traces


def _scatter(
    heads: Iterable[HeadPair],
    label: str,
    number: int,
    kind: str,
    size: float,
    *,
    in_legend: bool,
) -> go.Scatter:
    """Marks over some heads that let the cell below answer to hovering."""
    heads = list(heads)
    return go.Scatter(
        x=[layer for layer, _ in heads],
        y=[head for _, head in heads],
        mode="markers",
        name=label,
        hoverinfo="skip",
        showlegend=in_legend,
        xaxis=f"x{_suffix(number)}",
        yaxis=f"y{_suffix(number)}",
        legend=f"legend{_suffix(number)}",
        meta={"panel": number, "kind": kind, "relative_size": size},
    )


def _subtitle(scores: HeadScores, dots: bool) -> dict[str, Any]:
    """The line that says what was scored."""
    unit = "names" if scores.relation == "copying" else "pairs"
    count = f"{scores.n_pairs:,} of {scores.pairs.n_given:,} {unit}"
    if scores.n_pairs < FEW_PAIRS:
        count = f"<b>only {scores.n_pairs} {unit}</b>"
    parts = [
        as_plain(scores.model.title),
        f"k = {scores.k}",
        "with first MLP" if scores.first_mlp else "without first MLP",
        count,
    ]
    if dots:
        parts.append("dot: above 0")
    return {
        "name": "subtitle",
        "text": " · ".join(parts),
        "xref": "paper",
        "yref": "paper",
        "x": 0.5,
        "xanchor": "center",
        "yanchor": "top",
        "showarrow": False,
        "font": {"size": TEXT_PX, "color": "#444444"},
    }


def _layout(
    panels: Sequence[_Panel],
    scores: HeadScores,
    classes: pd.DataFrame,
    own: Sequence[mark_sets.HeadSet],
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
        suffix = _suffix(number)
        n_layers, n_heads = panel.counts.shape
        # One zoom moves both panels, so that the same heads stay side by side.
        linked = {"x": {"matches": "x"}, "y": {"matches": "y"}} if number else {"x": {}, "y": {}}
        layout[f"xaxis{suffix}"] = (
            axis | linked["x"] | {"anchor": f"y{suffix}", "range": [-0.5, n_layers - 0.5]}
        )
        layout[f"yaxis{suffix}"] = (
            axis | linked["y"] | {"anchor": f"x{suffix}", "range": [-0.5, n_heads - 0.5]}
        )
        layout[f"xaxis{suffix}"].title.text = "Layer"
        layout[f"yaxis{suffix}"].title.text = "Head"
        layout[f"legend{suffix}"] = {
            "title": {
                "text": mark_sets.legend_title(classes, panel.sets, own),
                "font": {"size": 14},
            },
            "xanchor": "center",
            "yanchor": "top",
            "bordercolor": "#bbbbbb",
            "borderwidth": 1,
            "itemsizing": "constant",
        }
    return layout


def _update_axes(fig: go.Figure, number: int, axes: Mapping[str, Mapping[str, Any]]) -> None:
    for name, values in axes.items():
        fig.layout[f"{name}axis{_suffix(number)}"].update(values)


def facts_of(scores: HeadScores) -> dict[str, Any]:
    """The counts that the figure shows and what made them.

    Args:
        scores: of one model.

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
        "n_layers": scores.n_layers,
        "n_heads": scores.n_heads,
        "n_in_top_k": scores.n_in_top_k.tolist(),
        "n_in_bottom_k": scores.n_in_bottom_k.tolist(),
        "provenance": timeless(scores.provenance),
    }


def _suffix(panel: int) -> str:
    """What plotly adds to the names of a panel's axes and legend: the first has no number."""
    return "" if panel == 0 else str(panel + 1)
