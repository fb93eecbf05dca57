"""Where everything in the heatmap figure goes, for any width, number of heads and size of text.

1. Texts, fonts and sizes are read from the figure, so that what its owner changed is kept.
2. Panels stand side by side where both have room, else one above the other, and take the width
   that texts and colour bars leave.
3. Every value that is set here is noted in ``layout.meta["placed"]``. Laid out again, for another
   width, a value that has been changed since is left alone.

All lengths are CSS pixels (1/96 in); places are counted from the top left corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import plotly.graph_objects as go

from analysis.plots.narrow import make_room_for_legend, narrowed
from analysis.plots.placer import Placer
from analysis.plots.style import SCREEN_WIDTH, TEXT_PX, TITLE_PX, axis_suffix, text_width
from analysis.plots.texts import label_step, line_width
from analysis.validation import check_number

MIN_WIDTH, MAX_WIDTH = 300, 10_000
STACKED_BELOW = 700
"""Narrower figures have their panels one above the other."""
ARRANGEMENTS = ("auto", "side by side", "stacked")
MODEBAR_ROW = 30
"""Room for plotly's buttons above every title, on a screen."""

_MIN_PANEL_HEIGHT, _MAX_PANEL_HEIGHT = 250, 420
_BAR_THICKNESS, _TICK = 14, 4


class Box(NamedTuple):
    """A rectangle, from the figure's top left corner."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class _Sizes:
    """Room that texts need, from the fonts of one figure."""

    text: float
    title: float
    bar_title: float
    legend: float
    left: float
    bar: float
    below: float

    @staticmethod
    def of(fig: go.Figure, n_panels: int) -> _Sizes:
        layout = fig.layout
        text = layout.font.size or TEXT_PX
        tick = max(layout.yaxis.tickfont.size or text, layout.xaxis.tickfont.size or text)
        axis_title = layout.yaxis.title.font.size or text
        grids = [fig.data[panel] for panel in range(n_panels) if fig.data[panel].type == "heatmap"]
        bars = [grid.colorbar for grid in grids]
        bar_title = max((bar.title.font.size or text for bar in bars), default=text)
        bar_tick = max((bar.tickfont.size or text for bar in bars), default=text)
        labels = [str(label) for bar in bars for label in bar.ticktext or ("0.0",)]
        numbers = max((text_width(label, bar_tick) for label in labels), default=0)
        title_sizes = [
            note.font.size for name, note in _named_notes(fig).items() if name.startswith("title ")
        ]
        bar = 8 + _BAR_THICKNESS + _TICK + 4 + numbers + 6 + 1.35 * bar_title
        return _Sizes(
            text=text,
            title=next((size for size in title_sizes if size), TITLE_PX),
            bar_title=bar_title,
            legend=layout.legend.font.size or text,
            left=text_width("00" if bars else "0.0", tick) + _TICK + 8 + 1.3 * axis_title + 4,
            bar=bar if bars else 16,
            below=_TICK + 3 + 1.3 * tick + 4 + 1.3 * axis_title + 4,
        )


def lay_out(fig: go.Figure, width: float | None = None, *, screen: bool = True) -> None:
    """Place panels, ticks, colour bars, titles, marks and legends of a heatmap figure, in place.

    A width of None keeps the figure's own; on a ``screen`` there is room for plotly's buttons.
    """
    placer = Placer(fig)
    width = check_width(width if width is not None else fig.layout.width or SCREEN_WIDTH)
    n_panels = len(fig.layout.meta["panels"])
    sizes = _Sizes.of(fig, n_panels)
    arrangement = fig.layout.meta["arrangement"]
    stacked = arrangement == "stacked" or (arrangement == "auto" and width < STACKED_BELOW)
    columns = 1 if stacked else n_panels
    column = width / columns
    heading = fig.layout.title.text
    heading_font = fig.layout.title.font.size or TITLE_PX
    notes = _named_notes(fig)
    places: list[tuple[str, Any]] = []

    top = float(MODEBAR_ROW if screen else 6)
    if heading:
        lines = placer.lines("layout.title.text", heading, width - 20, heading_font)
        places += [
            ("layout.title.y", top),
            ("layout.title.text", "<br>".join(lines)),
        ]
        top += 1.3 * heading_font * len(lines) + 2
    if "subtitle" in notes:
        note, path = notes["subtitle"], "layout.annotations.subtitle"
        size = note.font.size or sizes.text
        lines = placer.lines(f"{path}.text", note.text, width - 16, size)
        places += [(f"{path}.text", "<br>".join(lines)), (f"{path}.y", top)]
        top += 1.3 * size * len(lines) + 8

    boxes: list[Box] = []
    titles: dict[int, list[str]] = {}
    for panel in range(n_panels):
        if f"title {panel}" in notes:
            note = notes[f"title {panel}"]
            path, size = f"layout.annotations.{note.name}.text", note.font.size or TITLE_PX
            titles[panel] = placer.lines(path, note.text, column - 16, size)
    legends = _legends(fig)
    legend_room = [
        _legend_height(fig, number, sizes) if number in legends else 0.0
        for number in range(n_panels)
    ]
    one_legend = legends == [0] and n_panels == 2
    n_heads = len(fig.data[0].z) if fig.data[0].type == "heatmap" else 0
    for row in range(n_panels // columns):
        inside = range(row * columns, (row + 1) * columns)
        title_room = max(1.3 * sizes.title * len(titles.get(panel, ())) for panel in inside)
        title_room += 2 + _title_shift(sizes)
        panel_width = column - sizes.left - sizes.bar
        if n_heads:
            n_layers = len(fig.data[0].z[0])
            tallest_title = max(
                line_width(fig.data[panel].colorbar.title.text or "", sizes.bar_title)
                for panel in inside
            )
            least = max(_MIN_PANEL_HEIGHT, tallest_title + 6)
            height = min(
                max(panel_width / n_layers * n_heads, least), max(_MAX_PANEL_HEIGHT, least)
            )
        else:
            height = 330.0
        for place in range(columns):
            boxes.append(Box(place * column + sizes.left, top + title_room, panel_width, height))
        rest = 0.0 if one_legend else max(legend_room[panel] for panel in inside)
        top += title_room + height + sizes.below + rest + (10 if row < n_panels - 1 else 0)
    if one_legend:
        top += legend_room[0]
    height = top + 6

    if not placer.is_mine("layout.height"):
        # A height of the owner's stretches the panels.
        wanted = fig.layout.height * width / (fig.layout.width or width)
        extra = (wanted - height) / (n_panels // columns)
        if boxes[0].height + extra >= 80:
            boxes = [
                box._replace(height=box.height + extra, top=box.top + extra * (at // columns))
                for at, box in enumerate(boxes)
            ]
            height = wanted
        placer.force("layout.height", height)
    else:
        placer.put("layout.height", height)
    placer.force("layout.width", width)
    placer.put("layout.margin", {"l": 0, "r": 0, "t": 0, "b": 0, "autoexpand": False})

    for path, value in places:
        placer.put(path, 1 - value / height if path.endswith(".y") else value)
    for panel, box in enumerate(boxes):
        _place_panel(fig, placer, panel, box, sizes, (width, height))
        if panel in titles:
            note = notes[f"title {panel}"]
            _place_title(note, placer, box, sizes, (width, height), titles[panel])
    legend_top = max(box.top + box.height for box in boxes)
    for number in legends:
        box = boxes[number]
        suffix = axis_suffix(number)
        middle = 0.5 if one_legend else (column * (number % columns) + column / 2) / width
        start = (legend_top if one_legend else box.top + box.height) + sizes.below
        placer.put(f"layout.legend{suffix}.x", middle)
        placer.put(f"layout.legend{suffix}.y", 1 - start / height)
    _place_marks(fig, placer, boxes)
    placer.note()


def fit_width(fig: go.Figure, width: float | None, *, screen: bool = True) -> go.Figure:
    """A copy of any figure for another width, with texts of the same size.

    Args:
        fig: a heatmap figure is laid out afresh; the panels of any other go one above the other
            where it is narrow.
        width: of the copy; None for its own, at which only a heatmap figure is laid out.
        screen: leave room for plotly's buttons.
    """
    if not is_heatmap_figure(fig):
        if width is None:
            return go.Figure(fig)
        ours = fig.layout.height is not None and fig.layout.margin.t is not None
        if ours and width < STACKED_BELOW:
            return narrowed(fig, width)
        wide = go.Figure(fig).update_layout(width=width)
        if ours:
            make_room_for_legend(wide, width)
        return wide
    fitted = go.Figure(fig)
    lay_out(fitted, width, screen=screen)
    return fitted


def is_heatmap_figure(fig: go.Figure) -> bool:
    """Whether ``lay_out`` can place a figure's parts."""
    meta = fig.layout.meta
    return isinstance(meta, dict) and "panels" in meta and "arrangement" in meta


def check_width(width: object) -> float:
    """A width in CSS pixels, from 300 to 10,000, as a float."""
    return check_number("width", width, MIN_WIDTH, MAX_WIDTH, "CSS pixels")


def _place_panel(
    fig: go.Figure,
    placer: Placer,
    panel: int,
    box: Box,
    sizes: _Sizes,
    whole: tuple[float, float],
) -> None:
    """Axes, ticks and colour bar of one panel."""
    width, height = whole
    suffix = axis_suffix(panel)
    x = [box.left / width, (box.left + box.width) / width]
    y = [1 - (box.top + box.height) / height, 1 - box.top / height]
    placer.put(f"layout.xaxis{suffix}.domain", x)
    placer.put(f"layout.yaxis{suffix}.domain", y)
    trace = fig.data[panel]
    if trace.type != "heatmap":
        return
    n_heads, n_layers = len(trace.z), len(trace.z[0])
    cell = box.width / n_layers, box.height / n_heads
    tick = fig.layout[f"xaxis{suffix}"].tickfont.size or sizes.text
    label = text_width("0" * len(str(n_layers - 1)), tick) + 3
    placer.put(f"layout.xaxis{suffix}.ticklabelstep", label_step(cell[0], label))
    placer.put(f"layout.yaxis{suffix}.ticklabelstep", label_step(cell[1], tick + 2))
    gap = round(min(1.0, 0.07 * min(cell)), 2)
    placer.put(f"data.{panel}.xgap", gap)
    placer.put(f"data.{panel}.ygap", gap)
    placer.put(f"data.{panel}.colorbar.x", x[1])
    placer.put(f"data.{panel}.colorbar.y", sum(y) / 2)
    placer.put(f"data.{panel}.colorbar.len", y[1] - y[0])


def _place_title(
    note: Any,
    placer: Placer,
    box: Box,
    sizes: _Sizes,
    whole: tuple[float, float],
    lines: list[str],
) -> None:
    """A panel's title above it."""
    width, height = whole
    path = f"layout.annotations.{note.name}"
    placer.put(f"{path}.text", "<br>".join(lines))
    placer.put(f"{path}.y", 1 - box.top / height)
    placer.put(f"{path}.yshift", _title_shift(sizes))
    # A title wider than its panel is centred in its column.
    half = max(line_width(line, note.font.size or TITLE_PX) for line in lines) / 2
    centre = box.left + box.width / 2
    columns = max(1, round(width / (box.width + sizes.left + sizes.bar)))
    start = box.left - sizes.left
    end = start + width / columns
    centre = min(max(centre, start + 6 + half), end - 6 - half)
    placer.put(f"{path}.x", centre / width)


def _title_shift(sizes: _Sizes) -> float:
    """How far above its panel a title ends: above the colour bar's highest label."""
    return round(0.55 * sizes.text + 1, 1)


def _place_marks(fig: go.Figure, placer: Placer, boxes: list[Box]) -> None:
    """Sizes of the marks, by the cells that they stand on."""
    if fig.data[0].type != "heatmap":
        return
    cells = [
        min(box.width / len(fig.data[0].z[0]), box.height / len(fig.data[0].z)) for box in boxes
    ]
    for number, trace in enumerate(fig.data):
        part = trace.meta if isinstance(trace.meta, dict) else {}
        if "relative_size" not in part:
            continue
        cell = cells[min(part["panel"], len(cells) - 1)]
        if part.get("kind") == "dot":
            size = min(max(0.22 * cell, 2.2), 4.5)
        else:
            size = min(max(0.45 * cell, 6), 13) * part["relative_size"]
        placer.put(f"data.{number}.marker.size", round(size, 2))


def _legends(fig: go.Figure) -> list[int]:
    """The panels whose legend has entries."""
    return sorted(
        {
            0 if trace.legend in (None, "legend") else int(trace.legend.removeprefix("legend")) - 1
            for trace in fig.data
            if trace.type != "heatmap" and trace.showlegend is not False
        }
    )


def _legend_height(fig: go.Figure, number: int, sizes: _Sizes) -> float:
    """Height of a legend with its heading, entries and border."""
    legend = "legend" + axis_suffix(number)
    names = [
        trace.name or ""
        for trace in fig.data
        if trace.type != "heatmap"
        and trace.showlegend is not False
        and (trace.legend or "legend") == legend
    ]
    lines = sum(1 + name.count("<br>") for name in names)
    heading = fig.layout[legend].title
    title = 1.4 * (heading.font.size or sizes.legend) if heading.text else 0
    return title + lines * max(1.3 * sizes.legend + 3, 20) + 14


def _named_notes(fig: go.Figure) -> dict[str, Any]:
    """The annotations that have a name; the figure's owner may take some away or reorder them."""
    return {note.name: note for note in fig.layout.annotations if note.name}
