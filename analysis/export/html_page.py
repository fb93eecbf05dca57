"""A figure as one HTML page that needs no network.

The page carries plotly's JavaScript in itself, packed with gzip to a third of its size, and
unpacks it when opened (``DecompressionStream``: Chrome 80, Firefox 113, Safari 16.4, or later). A
reader without JavaScript sees a picture. Text of the figure, the model or the names is escaped.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from analysis.export.still.render import needs_browser, render
from analysis.export.still.resolved import plain
from analysis.plots.heatmap_layout import fit_width, is_heatmap_figure
from analysis.plots.style import FRAME, GAP, GRID, INK, PAPER, QUIET, SCREEN_WIDTH

VIEW_CONFIG = {"displaylogo": False, "showSendToCloud": False, "responsive": False}
"""How plotly shows a figure: without a button that would upload it."""

_NARROW = (300, 360, 440, 560)
_WIDE = (700, 820, 980, 1180, 1400)
_OUR_COLOURS = {PAPER, INK, GAP, GRID, QUIET, FRAME}
"""Colours of the layout of a heatmap figure, which turn in the dark."""
_TITLES = {
    "layer": "Layer",
    "head": "Head",
    "copying_score": "Copying score",
    "relation_score": "Relation score",
    "suppression_score": "Suppression score",
    "n_in_top_k": "In the top k",
    "n_in_bottom_k": "In the bottom k",
    "n_pairs": "Of",
}


def html_page(
    fig: go.Figure,
    title: str,
    *,
    facts: Mapping[str, Any] | None = None,
    table: pd.DataFrame | None = None,
) -> str:
    """A page that shows an interactive figure; the same bytes for the same figure.

    Args:
        fig: any plotly figure.
        title: of the browser's tab, and of the page where the figure says nothing better.
        facts: ``layout.meta["scores"]`` of a heatmap figure, for the caption.
        table: the numbers that it shows, as a table that can be sorted.
    """
    heading = _heading(fig, facts) or title
    still = "" if needs_browser(fig) else _still(fig, heading)
    parts = {
        "TITLE": html.escape(title),
        "HEADING": html.escape(heading),
        "CAPTION": _caption(facts or {}),
        "TABLE": _table(table) if table is not None else "",
        "STILL": still,
        "PACKED": packed_plotly(),
        "UNPACK": unpacking("packed"),
        "FIGURE": escaped(json.dumps(_layouts(fig))),
        "CONFIG": json.dumps(VIEW_CONFIG),
    }
    page = files("analysis.export").joinpath("page.html").read_text(encoding="utf-8")
    head, *rest = page.split("{{")
    return head + "".join(
        parts[name] + text for name, _, text in (piece.partition("}}") for piece in rest)
    )


@cache
def packed_plotly() -> str:
    """Plotly's JavaScript, gzip in base64, without a time in it."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def unpacking(place: str) -> str:
    """The lines of a module's script that load ``packed_plotly`` from the element of this id."""
    return f"""\
const bytes = Uint8Array.from(atob(document.getElementById("{place}").textContent),
                              (c) => c.charCodeAt(0));
const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
const script = document.createElement("script");
script.textContent = await new Response(unpacked).text();
document.head.append(script);"""


def _layouts(fig: go.Figure) -> dict[str, Any]:
    """The figure, and how it differs for other widths of the window.

    Returns:
        ``data``, and ``layouts``: for each width its ``width``, its ``layout`` and what of the
        traces is ``changed``; ``fitted`` tells whether the figure has every width, ``dark``
        whether it has a dark scheme: one whose owner has chosen a colour stays as it is.
    """
    own = float(fig.layout.width or SCREEN_WIDTH)
    widths = {own}
    if is_heatmap_figure(fig):
        widths |= (
            set(_NARROW + _WIDE) if own == SCREEN_WIDTH else {w for w in _NARROW + _WIDE if w < own}
        )
    # Texts of the cells, most of the figure, are the same at every width.
    light = go.Figure(fig).for_each_trace(lambda trace: trace.update(hovertext=None))
    variants = [_ready(fit_width(light, width)) for width in sorted(widths)]
    base = _ready(fig)["data"]
    colours = set(_colours([variants[0]["layout"], *(trace.get("colorbar") for trace in base)]))
    return {
        "data": base,
        "fitted": is_heatmap_figure(fig),
        "dark": is_heatmap_figure(fig) and colours <= _OUR_COLOURS,
        "layouts": [
            {
                "width": variant["layout"]["width"],
                "layout": variant["layout"],
                "changed": [
                    {k: v for k, v in trace.items() if first.get(k) != v}
                    for trace, first in zip(variant["data"], base, strict=True)
                ],
            }
            for variant in variants
        ],
    }


def _ready(fig: go.Figure) -> dict[str, Any]:
    """A figure as its JSON, without what only an export needs."""
    ready: dict[str, Any] = json.loads(fig.to_json())
    ready["layout"].pop("meta", None)
    ready["layout"].setdefault("width", SCREEN_WIDTH)
    return ready


def _colours(part: Any) -> Iterator[str]:
    """The colours of a layout, without those of its template."""
    if isinstance(part, list):
        for one in part:
            yield from _colours(one)
    elif isinstance(part, dict):
        for name, value in part.items():
            if name.endswith("color"):
                yield value
            elif name != "template":
                yield from _colours(value)


def escaped(text: str) -> str:
    """JSON that no text in it can end the script of."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _heading(fig: go.Figure, facts: Mapping[str, Any] | None) -> str:
    """What the page is about."""
    if fig.layout.title.text:
        return plain(fig.layout.title.text).replace("\n", " ")
    if not facts:
        return ""
    model = facts["model"]["title"]
    if facts["relation"] == "copying":
        return f"{model}: which heads copy names, and which suppress them?"
    return f"{model}: which heads write a relation's targets, and which suppress them?"


def _caption(facts: Mapping[str, Any]) -> str:
    """What was scored, and with what, as a sentence or two."""
    if not facts:
        return ""
    model, made = facts["model"], facts.get("provenance") or {}
    copying = facts["relation"] == "copying"
    score, unit = ("copying score", "name") if copying else ("relation score", "pair")
    unit += "" if facts["n_pairs"] == 1 else "s"
    revision = f", revision {model['revision']}" if model.get("revision") else ""
    checksum = f", weights SHA-256 {model['checksum'][:16]}…" if model.get("checksum") else ""
    mlp = "with" if facts["first_mlp"] else "without"
    versions = made.get("versions") if isinstance(made.get("versions"), Mapping) else {}
    software = ", ".join(f"{name} {version}" for name, version in (versions or {}).items())
    said = [
        f"Model: {model['name']}{revision}{checksum}.",
        f"A head's {score} is the share of {facts['n_pairs']:,} {unit} "
        f"(of {facts['n_given']:,} given, SHA-256 {facts['pairs_sha256'][:16]}…) whose target is "
        f"among the k = {facts['k']} largest of its logits; its suppression score, among the "
        f"smallest. Sources {mlp} the first MLP.",
        f"Made with {software}." if software else "",
    ]
    return html.escape(" ".join(filter(None, said)))


def _still(fig: go.Figure, alt: str) -> str:
    """A picture for readers without JavaScript."""
    png = base64.b64encode(render(fit_width(fig, None, screen=False), "png", dpi=144)).decode()
    return f'<noscript><img alt="{html.escape(alt)}" src="data:image/png;base64,{png}"></noscript>'


def _table(table: pd.DataFrame) -> str:
    """The scores as a table whose columns sort."""
    frame = table.reset_index()
    first = next(name for name in frame.columns if str(name).endswith("_score"))
    frame = frame.sort_values(first, ascending=False, kind="stable")
    order = {first: ' aria-sort="descending"'}
    # What is shown is what sorts: counts that differ need scores that differ.
    digits = max(3, len(str(int(frame["n_pairs"].max()) - 1)))
    cells = "".join(
        f'<th scope="col"{order.get(str(name), "")}><button type="button">'
        f"{html.escape(_TITLES.get(str(name), str(name)))}</button></th>"
        for name in frame.columns
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{value:.{digits}f}</td>"
            if isinstance(value, float)
            else f"<td>{html.escape(str(value))}</td>"
            for value in row
        )
        + "</tr>"
        for row in frame.astype(object).itertuples(index=False)
    )
    n = len(frame)
    return (
        '<h2 id="numbers">All scores</h2><div class="scroll" role="region" tabindex="0" '
        f'aria-labelledby="numbers"><table><caption>{n:,} heads; a column\'s name sorts by it.'
        f"</caption><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
