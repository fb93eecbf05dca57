"""What one panel of the heatmap figure shows, as plotly's traces: cells, dots, marks, words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.errors import ParameterError
from analysis.heads import HeadPair, head_name
from analysis.ioi.head_classes import ORIGINS, PUBLISHED
from analysis.plots.colour_scale import ColourScale
from analysis.plots.marks import HeadSet, class_sets
from analysis.plots.sorted_heads import sorted_traces
from analysis.plots.style import INK, PAPER, SEQUENTIAL, axis_suffix, rgba
from analysis.plots.texts import as_plain
from analysis.static.head_scores import HeadScores
from analysis.statistics import wilson_interval
from analysis.validation import shown

_TOO_DARK = 0.1  # of the colour bar: below, a cell is hard to tell from one at the bar's end


@dataclass(frozen=True)
class Panel:
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
    sets: tuple[HeadSet, ...]


def panel_of(
    scores: HeadScores,
    classes: pd.DataFrame,
    name: str,
    title: str | None,
    own: tuple[HeadSet, ...],
) -> Panel:
    """What one panel shows."""
    copying = scores.relation == "copying"
    kind = "Name Copying score" if copying else "Relation score"
    subject = "Name-Copying heads" if copying else "Relation scores"
    suppression = name == "suppression"
    sign = "(Suppression) " if suppression else ""
    return Panel(
        counts=scores.n_in_bottom_k if suppression else scores.n_in_top_k,
        title=f"{as_plain(scores.model.title)}: {sign}{subject}" if title is None else title,
        score_name=f"{sign}{kind}",
        sets=class_sets(scores, classes, suppression=suppression) + own,
    )


def heatmaps(
    panels: Sequence[Panel],
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
                xaxis=f"x{axis_suffix(number)}",
                yaxis=f"y{axis_suffix(number)}",
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


def dots(fig: go.Figure, panels: Sequence[Panel], colours: ColourScale) -> list[go.Scatter]:
    """A dot on every head whose score is above 0, and whose colour does not show it."""
    traces = []
    for number, panel in enumerate(panels):
        heatmap = fig.data[number]
        places = np.array(heatmap.z, dtype=float).T
        low, high = colours.ends()
        hidden = (panel.counts > 0) & ((places - low) / (high - low) < _TOO_DARK)
        heads = [(int(layer), int(head)) for layer, head in np.argwhere(hidden)]
        trace = _scatter(heads, "above 0", number, "dot", 1.0, in_legend=False)
        dark = luminance(heatmap.colorscale[0][1]) < 0.4
        trace.marker.update(symbol="circle", color=PAPER if dark else INK, line={"width": 0})
        traces.append(trace)
    return traces


def luminance(colour: str) -> float:
    """Share of white of a colour on white paper."""
    red, green, blue, opacity = rgba(colour)
    return (0.299 * red + 0.587 * green + 0.114 * blue) * opacity + (1 - opacity)


def _hover_texts(panel: Panel, scores: HeadScores, classes: pd.DataFrame) -> list[list[str]]:
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


def _head_texts(panel: Panel, scores: HeadScores) -> dict[HeadPair, str]:
    """Name, score, count and interval of every head."""
    unit = scores.pairs.unit
    low, high = wilson_interval(panel.counts, scores.n_pairs)
    return {
        (layer, head): f"<b>{head_name(layer, head)}</b>"
        f"<br>{panel.score_name} {count / scores.n_pairs:.3f}"
        f"<br>{count} of {scores.n_pairs} {unit}"
        f"<br>95 % interval {low[layer, head]:.3f} to {high[layer, head]:.3f}"
        for (layer, head), count in np.ndenumerate(panel.counts)
    }


def sorted_points(panels: Sequence[Panel], scores: HeadScores) -> list[go.Scatter]:
    """The traces of the sorted view: the points of all panels first."""
    of_each = [
        sorted_traces(panel.counts, scores.n_pairs, _head_texts(panel, scores), axis_suffix(number))
        for number, panel in enumerate(panels)
    ]
    return [traces[0] for traces in of_each] + [trace for traces in of_each for trace in traces[1:]]


def markers(sets: Sequence[HeadSet], number: int, *, in_legend: bool) -> list[go.Scatter]:
    """One panel's marks; below each open one lies a wider white one, its halo."""
    traces = []
    for one in sets:
        look = one.look
        trace = _scatter(one.heads, one.label, number, "mark", look.size, in_legend=in_legend)
        trace.cliponaxis = False  # whole on the outermost heads too
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
        xaxis=f"x{axis_suffix(number)}",
        yaxis=f"y{axis_suffix(number)}",
        legend=f"legend{axis_suffix(number)}",
        meta={"panel": number, "kind": kind, "relative_size": size},
    )
