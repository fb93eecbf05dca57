"""Figures of lines, points and small heatmaps on a narrow page or screen.

Panels that stand side by side go one above the other, at their own height, the title breaks into
lines that fit, and the legend finds room for more lines. Texts keep their size.
"""

from __future__ import annotations

import math

import plotly.graph_objects as go

from analysis.plots.style import AXIS_TITLE_PX, TEXT_PX, TITLE_PX, text_width
from analysis.plots.texts import label_step, line_width, wrapped

_BETWEEN = 85.0
"""From panel to panel: ticks and title of one, and what stands above the next."""
_SHARED_X_TITLE = "shared x title"
_BELOW_TICKS = 24
"""From a panel to the title of its x axis, past ticks and numbers."""
_LEGEND_MARK, _LEGEND_LINE = 48, 22
_MARGINS = {"l": 80, "r": 80, "t": 100, "b": 80}
"""plotly's, where a figure has none of its own."""


def share_x_title(fig: go.Figure, text: str) -> None:
    """Put one title below panels that stand side by side; above one another, each has its own."""
    fig.add_annotation(
        name=_SHARED_X_TITLE,
        text=text,
        xref="paper",
        yref="paper",
        x=0.5,
        y=0,
        xanchor="center",
        yanchor="top",
        yshift=-_BELOW_TICKS,
        showarrow=False,
        font_size=AXIS_TITLE_PX,
    )


def narrowed(fig: go.Figure, width: float) -> go.Figure:
    """A copy of a figure for a width at which its panels have no room side by side.

    Not of one of ``plot_heatmaps``, which has a layout of its own.
    """
    copy = go.Figure(fig)
    layout = copy.layout
    layout.width = width
    _fill_margins(copy)
    layout.margin.r = min(layout.margin.r, width / 4)
    _wrap_title(copy, width)
    pairs = dict.fromkeys((trace.xaxis or "x", trace.yaxis or "y") for trace in copy.data)
    panels = [(f"xaxis{x[1:]}", f"yaxis{y[1:]}") for x, y in pairs]
    side_by_side = len({tuple(layout[x].domain or (0, 1)) for x, _ in panels}) > 1
    if side_by_side and not any(trace.legend not in (None, "legend") for trace in copy.data):
        _stack(copy, panels)
    _space_labels(copy, width - layout.margin.l - layout.margin.r)
    make_room_for_legend(copy, width)
    return copy


def _fill_margins(fig: go.Figure) -> None:
    """Write down the margins that plotly would take."""
    for side, usual in _MARGINS.items():
        if fig.layout.margin[side] is None:
            fig.layout.margin[side] = usual


def _inside(fig: go.Figure) -> float:
    """Height of the plot area."""
    margin = fig.layout.margin
    return float(fig.layout.height - margin.t - margin.b)


def _resize(fig: go.Figure, height: float) -> None:
    """Another height of the plot area, the legend as far below it as before."""
    legend = fig.layout.legend
    if legend.orientation == "h" and legend.y is not None:
        legend.y = legend.y * _inside(fig) / height
    fig.layout.height = fig.layout.height - _inside(fig) + height


def _wrap_title(fig: go.Figure, width: float) -> None:
    title = fig.layout.title
    if not title.text:
        return
    size = title.font.size or TITLE_PX
    lines = wrapped(title.text, width - 24, size)
    title.text = "<br>".join(lines)
    more = 1.3 * size * (len(lines) - 1)
    fig.layout.margin.t += more
    fig.layout.height += more


def _stack(fig: go.Figure, panels: list[tuple[str, str]]) -> None:
    """Put the panels one above the other, each with its own ticks and titles."""
    layout, each = fig.layout, _inside(fig)
    whole = len(panels) * each + (len(panels) - 1) * _BETWEEN
    below = [note.text for note in layout.annotations if note.name == _SHARED_X_TITLE]
    layout.annotations = [note for note in layout.annotations if note.name != _SHARED_X_TITLE]
    titles = [note for note in layout.annotations if note.yref == "paper" and not note.showarrow]
    shared = layout[panels[0][1]].title.text
    _resize(fig, whole)
    for number, (x, y) in enumerate(panels):
        top = 1 - number * (each + _BETWEEN) / whole
        layout[x].update(domain=[0, 1], anchor=y.replace("axis", ""))
        layout[x].title.text = layout[x].title.text or (below[0] if below else None)
        layout[y].update(
            domain=[max(0.0, top - each / whole), top],
            anchor=x.replace("axis", ""),
            showticklabels=True,
        )
        layout[y].title.text = layout[y].title.text or shared
        if len(titles) == len(panels):
            titles[number].update(x=0.5, xanchor="center", y=top, yanchor="bottom")


def _space_labels(fig: go.Figure, room: float) -> None:
    """Label as many of a heatmap's columns as leave room between the numbers."""
    for trace in fig.data:
        if trace.type != "heatmap" or trace.x is not None:
            continue
        axis = fig.layout[f"xaxis{(trace.xaxis or 'x')[1:]}"]
        start, end = axis.domain or (0, 1)
        n_columns = len(trace.z[0])
        size = axis.tickfont.size or fig.layout.font.size or TEXT_PX
        cell = room * (end - start) / n_columns * (axis.dtick or 1)
        axis.ticklabelstep = label_step(cell, text_width("0" * len(str(n_columns - 1)), size) + 3)


def make_room_for_legend(fig: go.Figure, width: float) -> None:
    """Let a legend below the panels have as many lines as it needs.

    The figure's height grows, that of the panels stays.
    """
    legend = fig.layout.legend
    names = [
        t.name for t in fig.data if t.name and t.showlegend is not False and t.type != "heatmap"
    ]
    if legend.orientation != "h" or len(names) < 2:
        return
    _fill_margins(fig)
    size = legend.font.size or fig.layout.font.size or TEXT_PX
    widest = max(line_width(name, size) for name in names)
    columns = max(1, int((width - 20) // (widest + _LEGEND_MARK)))
    below = -(legend.y or 0) * _inside(fig)
    needed = below + math.ceil(len(names) / columns) * _LEGEND_LINE + 8
    more = max(0.0, needed - fig.layout.margin.b)
    fig.layout.margin.b += more
    fig.layout.height += more
