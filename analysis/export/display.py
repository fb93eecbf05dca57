"""Figures in notebooks: interactive where JupyterLab runs, still where GitHub shows a preview."""

from __future__ import annotations

import base64
import json

import plotly.graph_objects as go
from IPython.display import display

from analysis.export.html_page import VIEW_CONFIG
from analysis.export.still.render import needs_browser, render_all
from analysis.export.still.resolved import plain
from analysis.plots.heatmap_layout import fit_width
from analysis.validation import check_type

MIME_TYPE = "application/vnd.plotly.v1+json"
WIDGET_MIME_TYPE = "application/vnd.jupyter.widget-view+json"


def show_figure(fig: go.Figure) -> None:
    """Display a figure in a notebook.

    One output holds the figure itself and two pictures of it; each reader shows the richest that
    it can. The SVG is sharp at any size. The PNG has the figure's own size, since JupyterLab shows
    it, each of its pixels as one of CSS, until the pointer comes to the figure.

    Args:
        fig: any plotly figure; of one that only a browser can draw no picture is made.

    Raises:
        ParameterError: it is no figure.
    """
    check_type("fig", fig, go.Figure, "plot_heatmaps")
    live = json.loads(fit_width(fig, None).to_json())
    live["layout"].pop("meta", None)  # what an export needs, such as the time of scoring
    bundle: dict[str, object] = {
        MIME_TYPE: live | {"config": VIEW_CONFIG},
        "text/plain": _title(fig),
    }
    if not needs_browser(fig):
        png, svg = render_all(fit_width(fig, None, screen=False), ["png", "svg"])
        bundle["image/png"] = base64.b64encode(png).decode()
        bundle["image/svg+xml"] = svg[svg.index(b"<svg") :].decode()  # as a part of pages
    display(bundle, raw=True)


def _title(fig: go.Figure) -> str:
    """What stands in the output where neither can be shown."""
    titles = [fig.layout.title.text] if fig.layout.title.text else []
    titles += [
        note.text for note in fig.layout.annotations if (note.name or "").startswith("title")
    ]
    return "; ".join(plain(text).replace("\n", " ") for text in titles) or "a plotly figure"
