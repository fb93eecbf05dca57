"""What of a plotly figure is drawn here: the settings that are known, object by object.

A setting that no list below has is one that only a browser draws, so that no picture leaves one
out without a word. A tuple holds the values that are drawn, ``ANY`` stands for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from analysis.export.still.resolved import AXIS, SYMBOLS, Resolved, array, grid, plain
from analysis.export.still.traces import DASHES
from analysis.plots.style import text_width

ANY = "any value"
_NOT_IN_PICTURES = re.compile(
    r"([xyz]?hover|click|drag|spike|select(?!edpoints)|unselect|customdata|new|active)\w*"
    r"|\w*revision|showspikes|meta|ids|uid|modebar|transition|autosize|fixedrange|capture\w+|item\w*click"
    r"|groupclick|autotypenumbers|default_colour|legendgroup|tracegroupgap|\w*src"
)
"""Settings of what a reader's pointer does, and names of parts."""
_NUMBER_FORMAT = re.compile(r"\+?,?(\.\d+)?[f%]|")
_DATE = re.compile(r"\d{4}-\d\d?(-\d\d?.*)?")
_LEGEND_MARK = 45


def _any(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), ANY)


_CLEAR = ("rgba(0,0,0,0)", "transparent")
_FONT = _any("family size color weight style") | {
    "variant": ("normal",), "textcase": ("normal",), "lineposition": ("none",),
    "shadow": ("none",),
}  # fmt: skip
_TITLE = {"text": ANY, "font": _FONT}
_TICKS = _any(
    "tick0 dtick tickvals ticktext ticklen ticklabelstep tickprefix ticksuffix tickformat"
    " showticklabels"
) | {
    "tickfont": _FONT, "tickmode": ("auto", "linear", "array"), "nticks": (0,),
    "ticks": ("outside", ""), "ticklabelposition": ("outside",), "showtickprefix": ("all",),
    "showticksuffix": ("all",), "separatethousands": (False,),
}  # fmt: skip
_AXIS_SETTINGS = _TICKS | _any(
    "anchor domain matches range visible title showline linecolor linewidth tickwidth tickcolor"
    " showgrid gridcolor gridwidth zeroline zerolinecolor zerolinewidth tickangle automargin"
    " constrain constraintoward"
) | {
    "title": _TITLE | {"standoff": ANY}, "type": ("linear", "category", "-"),
    "autorange": (True, False, "reversed"), "rangemode": ("normal",), "scaleanchor": (False,),
    "autorangeoptions": ({},), "mirror": (False,), "griddash": ("solid",), "tickson": ("labels",),
    "layer": ("above traces",), "categoryorder": ("trace",), "ticklabelmode": ("instant",),
    "rangeslider": {"visible": (False,)},
}  # fmt: skip
_SIDES = {"x": ("bottom",), "y": ("left",)}
_BAR = _TICKS | _any("x y len lenmode thickness xpad ypad") | {
    "title": _TITLE | {"side": ("top", "right")}, "orientation": ("v",), "xanchor": ("left",),
    "yanchor": ("middle",), "xref": ("paper",), "yref": ("paper",), "outlinewidth": (0,),
    "borderwidth": (0,), "bgcolor": _CLEAR, "tickwidth": (1,), "tickcolor": ("#444",),
    "thicknessmode": ("pixels",), "tickangle": (0,),
}  # fmt: skip
_SCALE = {"colorscale": ANY, "showscale": ANY, "reversescale": ANY, "colorbar": _BAR,
          "autocolorscale": (False,)}  # fmt: skip
_COLOUR_AXIS = _SCALE | _any("cmin cmax") | {"cauto": (False,)}
_TRACE = _any("type visible name xaxis yaxis text x y cliponaxis") | {
    "zorder": (0,), "connectgaps": (False,), "opacity": (1,),
}  # fmt: skip
_HEATMAP = _TRACE | _SCALE | _any("z zmin zmax xgap ygap coloraxis texttemplate") | {
    "zauto": (False,), "zsmooth": (False,), "transpose": (False,), "textfont": _FONT,
    "showlegend": (False,),
}  # fmt: skip
_ERROR = _any("array arrayminus color thickness width visible symmetric") | {
    "type": ("data",), "copy_ystyle": (False,), "copy_zstyle": (False,),
}  # fmt: skip
_SCATTER = _TRACE | _any("mode fillcolor opacity textposition showlegend legend legendrank") | {
    "line": {"color": ANY, "width": ANY, "dash": tuple(DASHES), "shape": ("linear", "hv", "vh"),
             "simplify": ANY, "smoothing": ANY},
    "marker": {"color": ANY, "symbol": ANY, "size": ANY, "opacity": ANY,
               "line": {"color": ANY, "width": ANY}},
    "fill": ("none", "toself"), "fillpattern": _any("fillmode size solidity") | {"shape": ("",)},
    "error_x": _ERROR, "error_y": _ERROR, "textfont": _FONT, "orientation": ("v",),
}  # fmt: skip
_LEGEND = _any("x y visible bordercolor borderwidth itemsizing") | {
    "font": _FONT, "title": _TITLE, "bgcolor": ANY, "orientation": ("h", "v"),
    "xanchor": ("left", "center", "right"), "yanchor": ("top", "middle", "bottom"),
    "traceorder": ("normal", "reversed"), "xref": ("paper",), "yref": ("paper",),
    "itemwidth": (30,), "valign": ("middle",), "indentation": (0,),
}  # fmt: skip
_NOTE = _any(
    "x y xref yref xshift yshift xanchor yanchor showarrow ax ay arrowcolor arrowhead arrowsize"
    " arrowwidth standoff text visible name"
) | {
    "font": _FONT, "opacity": (1,), "textangle": (0,), "bgcolor": _CLEAR, "bordercolor": _CLEAR,
    "align": ("center",), "valign": ("middle",), "axref": ("pixel",), "ayref": ("pixel",),
}  # fmt: skip
_LAYOUT = _any(
    "template width height paper_bgcolor plot_bgcolor colorway showlegend colorscale annotations"
    " barmode bargap bargroupgap"
) | {
    "font": _FONT, "margin": _any("l r t b autoexpand") | {"pad": (0,)},
    "title": _TITLE | _any("x y xanchor yanchor") | {
        "xref": ("container",), "yref": ("container",), "automargin": (False,),
        "subtitle": {"text": ("",), "font": ANY},
    },
}  # fmt: skip
_ONE_VALUE = ("size", "opacity")  # of all markers of a trace


def cannot_draw(figure: Resolved) -> list[str]:
    """What of a figure only a browser draws, in words; nothing for this package's figures."""
    found = chain(_of_traces(figure), _of_layout(figure), _of_legends(figure), _of_texts(figure))
    return sorted(set(found))


def _unknown(given: Mapping[str, Any], known: Mapping[str, Any], owner: str) -> Iterator[str]:
    """The settings of one object that are not drawn, or not with their values."""
    for name, value in given.items():
        if _NOT_IN_PICTURES.fullmatch(name):
            continue
        allowed = known.get(name, ())
        if isinstance(allowed, Mapping) and isinstance(value, Mapping):
            inner = {f"{name}.{part}": each for part, each in allowed.items()}
            parts = {
                f"{name}.{part}": each
                for part, each in value.items()
                if not _NOT_IN_PICTURES.fullmatch(part)
            }
            yield from _unknown(parts, inner, owner)
        elif allowed is not ANY and not _empty(value) and not _among(value, allowed):
            simple = isinstance(value, (str, int, float))
            yield f"{name}={value!r} of {owner}" if simple else f"{name} of {owner}"


def _empty(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict)) and not value


def _among(value: Any, allowed: Any) -> bool:
    if isinstance(allowed, Mapping) or not isinstance(value, (str, int, float, bool)):
        return False
    written = value.replace(" ", "") if isinstance(value, str) and "(" in value else value
    return any(written == one and isinstance(value, str) == isinstance(one, str) for one in allowed)


def _of_layout(figure: Resolved) -> Iterator[str]:
    scales = {trace.get("coloraxis") for trace in figure.traces}
    for name, value in figure.layout.items():
        kind = re.sub(r"\d+$", "", name)
        if AXIS.fullmatch(name):
            letter = name[0]
            known = _AXIS_SETTINGS | {"side": _SIDES[letter]}
            if value.get("type", "linear") not in known["type"]:
                yield f"{value['type']} axes"
                continue
            yield from _unknown(value, known, "an axis")
            yield from _of_ticks(value, "an axis")
            if value.get("anchor") == "free":
                yield "axes without an anchor"
            angle = value.get("tickangle") or 0
            if isinstance(angle, str) or (angle and letter == "y"):
                yield f"tickangle={angle!r} of an axis"
            ends = value.get("range")
            if ends and not all(isinstance(end, (int, float)) for end in ends):
                yield "ranges with an end of no number"
        elif name in scales:
            yield from _unknown(value, _COLOUR_AXIS, "a colour axis")
            yield from _of_ticks(value.get("colorbar") or {}, "a colour bar")
        elif kind == "legend":
            yield from _unknown(value, _LEGEND, "a legend")
        elif kind != "coloraxis" and name in figure.given and not _empty(value):
            if name in _LAYOUT or _NOT_IN_PICTURES.fullmatch(name):
                yield from _unknown({name: value}, _LAYOUT, "the layout")
            else:
                yield name
    for note in figure.layout.get("annotations") or ():
        yield from _unknown(note, _NOTE, "an annotation")
        if "domain" in f"{note.get('xref')} {note.get('yref')}":
            yield "annotations placed by an axis's domain"


def _of_ticks(axis: Mapping[str, Any], owner: str) -> Iterator[str]:
    """Ticks that are written in ways that only plotly has."""
    for name in ("dtick", "tick0"):
        if isinstance(axis.get(name), str):
            yield f"{name}={axis[name]!r} of {owner}"
    if not _NUMBER_FORMAT.fullmatch(axis.get("tickformat") or ""):
        yield f"tickformat={axis['tickformat']!r} of {owner}"


def _of_traces(figure: Resolved) -> Iterator[str]:
    for trace in figure.traces:
        kind = trace.get("type", "scatter")
        if kind not in ("heatmap", "scatter"):
            yield f"traces of type {kind}"
            continue
        for letter in "xy":
            yield from _of_values(figure, trace, letter)
        if kind == "heatmap":
            yield from _unknown(trace, _HEATMAP, "a heatmap")
            yield from _of_heatmap(figure, trace)
        else:
            yield from _unknown(trace, _SCATTER, "points and lines")
            yield from _of_points(trace)


def _of_values(figure: Resolved, trace: dict[str, Any], letter: str) -> Iterator[str]:
    """Values along an axis that plotly reads as something else than they are read here."""
    if trace.get(letter) is None:
        return
    values = array(trace[letter])
    if values.ndim > 1:
        yield "categories of categories"
        return
    axis = figure.axis(letter, trace.get(f"{letter}axis"))
    listed = [value for value in values.tolist() if value is not None]
    if values.dtype.kind == "M" or not all(isinstance(one, (str, int, float)) for one in listed):
        yield "dates along an axis"
        return
    words = [value for value in listed if isinstance(value, str)]
    if axis.get("type") == "category":
        return
    if any(_DATE.fullmatch(word) for word in words):
        yield "dates along an axis"
    # plotly takes numbers that are written as words for numbers, unless told not to.
    strict = "strict" in (axis.get("autotypenumbers"), figure.layout.get("autotypenumbers"))
    if (not strict or axis.get("type") == "linear") and any(map(_is_number, words)):
        yield "numbers written as words along an axis"


def _is_number(word: str) -> bool:
    try:
        float(word.replace(",", ""))
    except ValueError:
        return False
    return True


def _of_heatmap(figure: Resolved, trace: dict[str, Any]) -> Iterator[str]:
    try:
        rows, columns = grid(trace.get("z")).shape
    except (TypeError, ValueError):
        yield "heatmaps whose values are not a table of numbers"
        return
    for letter, n in zip("xy", (columns, rows), strict=True):
        if trace.get(letter) is None:
            continue
        values = array(trace[letter])
        if len(values) != n:
            yield "heatmaps that are given the edges of their cells"
        elif values.dtype.kind in "iuf" and n > 1:
            steps = np.diff(values.astype(float))
            if not (np.all(steps == 1) or np.all(steps == -1)):
                yield "heatmaps with other steps than 1 from cell to cell"
    text = trace.get("texttemplate") or ""
    forms = re.findall(r"%\{z:([^}]*)\}", text)
    rest = re.sub(r"%\{z:[^}]*\}", "", text)
    if "%{" in rest or len(set(forms)) > 1 or not all(map(_NUMBER_FORMAT.fullmatch, forms)):
        yield f"texttemplate={text!r} of a heatmap"
    shared = trace.get("coloraxis")
    owner = figure.layout.get(shared, {}) if shared else trace
    if not owner.get("colorscale"):
        yield "heatmaps without a colour scale"
    yield from _of_ticks(trace.get("colorbar") or {}, "a colour bar")


def _of_points(trace: dict[str, Any]) -> Iterator[str]:
    marker = trace.get("marker") or {}
    symbols = marker.get("symbol", "circle")
    symbols = [symbols] if isinstance(symbols, (str, int)) else array(symbols).tolist()
    for symbol in symbols:
        if str(symbol).removesuffix("-open") not in SYMBOLS:
            yield f"the symbol {symbol}"
    if len(set(map(str, symbols))) > 1:
        yield "markers of many kinds"
    if not isinstance(marker.get("color", ""), str):
        yield "markers of many colours"
    rim = marker.get("line") or {}
    sizes = [marker.get(name, 1) for name in _ONE_VALUE] + [rim.get("width", 1)]
    if not all(isinstance(size, (int, float)) for size in sizes):
        yield "markers of many sizes or opacities"
    if not isinstance(rim.get("color", ""), str):
        yield "markers with rims of many colours"
    for letter in "xy":
        bars = trace.get(f"error_{letter}") or {}
        if bars.get("visible") is False:
            continue
        if bars.get("array") is None:
            if any(bars.get(name) is not None for name in ("visible", "value", "type")):
                yield "error bars without lengths of their own"
        elif bars.get("symmetric", bars.get("arrayminus") is None) != (
            bars.get("arrayminus") is None
        ):
            yield "error bars of which one side is given and not shown"


def _of_texts(figure: Resolved) -> Iterator[str]:
    """Markup without which a text says something else: 10 with a raised -3 would be 10-3."""
    if any("<sup>" in text for text in _texts([figure.layout, *figure.traces])):
        yield "superscripts (<sup>)"


def _texts(part: Any) -> Iterator[str]:
    """All that a picture writes of a part of a figure."""
    if isinstance(part, Mapping):
        for name, value in part.items():
            if name not in ("x", "y", "z", "template") and not _NOT_IN_PICTURES.fullmatch(name):
                yield from _texts(value)
    elif isinstance(part, (list, tuple, np.ndarray)):
        for one in part:
            yield from _texts(one)
    elif isinstance(part, str):
        yield part


def _of_legends(figure: Resolved) -> Iterator[str]:
    """Legends that plotly makes room for, or whose names plotly makes up."""
    layout = figure.layout
    entries = [
        trace
        for trace in figure.traces
        if trace.get("type", "scatter") == "scatter" and trace.get("showlegend") is not False
    ]
    asked = layout.get("showlegend") or any(trace.get("showlegend") for trace in entries)
    if layout.get("showlegend") is False or (len(entries) < 2 and not asked):
        return
    if not all(trace.get("name") for trace in entries):
        yield "a legend of traces without names"
        return
    if (layout.get("margin") or {}).get("autoexpand") is False:
        return
    for name in {trace.get("legend", "legend") for trace in entries}:
        legend = layout.get(name) or {}
        if legend.get("visible") is False or legend.get("orientation") == "h":
            continue
        size = figure.font(legend.get("font"))["size"]
        lines = plain((legend.get("title") or {}).get("text")).split("\n")
        lines += [
            line
            for trace in entries
            if trace.get("legend", "legend") == name
            for line in plain(trace["name"]).split("\n")
        ]
        inner = figure.width - figure.margins.left - figure.margins.right
        needed = max(text_width(line, size) for line in lines) + _LEGEND_MARK
        beside = float(legend.get("x", 1.02)) - 1
        if beside > 0 and beside * inner + needed > figure.margins.right:
            yield "a legend wider than the margin beside the plot"
