"""The legends of a still picture: a box for each, with a heading where there is one."""

from __future__ import annotations

from typing import Any

from analysis.export.still.frame import Canvas
from analysis.export.still.resolved import colour, plain
from analysis.export.still.traces import DASHES, marker_style
from analysis.plots.style import text_width

_MARK_PX = 30


def draw_legends(canvas: Canvas) -> None:
    """Every legend that has entries."""
    source = canvas.source
    if source.layout.get("showlegend") is False:
        return
    entries: dict[str, list[dict[str, Any]]] = {}
    for trace in source.traces:
        if trace.get("type") == "heatmap" or trace.get("showlegend") is False:
            continue
        if trace.get("name"):
            entries.setdefault(trace.get("legend", "legend"), []).append(trace)
    # One trace alone has a legend only where one is asked for.
    if sum(map(len, entries.values())) < 2 and source.layout.get("showlegend") is None:
        entries = {
            name: traces
            for name, traces in entries.items()
            if any(trace.get("showlegend") for trace in traces)
        }
    for name, traces in entries.items():
        legend = source.layout.get(name) or {}
        ordered = sorted(traces, key=lambda trace: trace.get("legendrank", 1000))
        if legend.get("traceorder") == "reversed":
            ordered.reverse()
        if legend.get("visible") is not False:
            _draw(canvas, legend, ordered)


def _draw(canvas: Canvas, legend: dict[str, Any], traces: list[dict[str, Any]]) -> None:
    from matplotlib.font_manager import FontProperties

    source, pt = canvas.source, canvas.pt
    style = canvas.text_style(legend.get("font"))
    labels = [plain(trace["name"]) for trace in traces]
    size = style["fontsize"] / pt
    columns = 1
    if legend.get("orientation") == "h":
        widest = max(text_width(line, size) for label in labels for line in label.split("\n"))
        room = source.width - 20
        columns = max(1, min(len(labels), int(room // (widest + _MARK_PX + 14))))
    x, y = canvas.share(float(legend.get("x", 1.02)), float(legend.get("y", 1)))
    horizontal = legend.get("xanchor", "left")
    vertical = {"top": "upper", "bottom": "lower"}.get(legend.get("yanchor", "top"), "center")
    place: Any = f"{vertical} {horizontal}".replace("center center", "center")
    title = legend.get("title") or {}
    box = canvas.figure.legend(
        handles=[_handle(trace, pt) for trace in traces],
        labels=labels,
        loc=place,
        bbox_to_anchor=(x, y),
        ncols=columns,
        frameon=bool(legend.get("borderwidth")),
        edgecolor=colour(legend.get("bordercolor", "#444")),
        facecolor=colour(legend.get("bgcolor") or source.layout.get("paper_bgcolor", "#fff")),
        framealpha=1,
        fancybox=False,
        borderaxespad=0,
        borderpad=0.4,
        handlelength=_MARK_PX * 0.8 / size,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.35,
        prop=FontProperties(family=style["fontfamily"], size=style["fontsize"]),
        title=plain(title.get("text")) or None,
    )
    box.get_frame().set_linewidth(legend.get("borderwidth", 0) * pt)
    for text in box.get_texts():
        text.set(parse_math=False, color=style["color"])
    if title.get("text"):
        own = canvas.text_style(legend.get("font"), title.get("font"))
        box.get_title().set(**own)


def _handle(trace: dict[str, Any], pt: float) -> Any:
    """What stands before a label."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    mode = trace.get("mode") or "lines"
    line = trace.get("line") or {}
    if trace.get("fill") == "toself":
        return Patch(facecolor=colour(trace.get("fillcolor", trace["default_colour"])), linewidth=0)
    style: dict[str, Any] = {}
    if "markers" in mode:
        style |= marker_style(trace, pt)
        style["markersize"] = min(style["markersize"], 12 * pt)
    drawn = "lines" in mode and line.get("width", 2) > 0
    return Line2D(
        [],
        [],
        color=colour(line.get("color") or trace["default_colour"]),
        linewidth=min(line.get("width", 2), 6) * pt if drawn else 0,
        linestyle=DASHES.get(line.get("dash", "solid"), "-") if drawn else "none",
        **style,
    )
