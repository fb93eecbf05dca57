"""Figures in notebooks: interactive where JupyterLab runs, still where GitHub shows a preview."""

from __future__ import annotations

import base64
import json

import plotly.graph_objects as go
from IPython.display import display

from analysis.export.chromium import Picture, draw, find_chromium
from analysis.export.html_page import VIEW_CONFIG


def show_figure(fig: go.Figure) -> None:
    """Display a figure in a notebook.

    One output holds the figure itself and, where Chromium is installed, a picture of it; each
    reader shows the richer one that it can.

    Args:
        fig: any plotly figure.

    Raises:
        ExportError: Chromium is there but does not draw.
    """
    bundle: dict[str, object] = {
        "application/vnd.plotly.v1+json": json.loads(fig.to_json()) | {"config": VIEW_CONFIG},
        "text/plain": _title(fig),
    }
    chromium = find_chromium()
    if chromium is not None:
        bundle["image/png"] = base64.b64encode(draw([Picture(fig, "png")], chromium)[0]).decode()
    display(bundle, raw=True)


def _title(fig: go.Figure) -> str:
    """What stands in the output where neither can be shown."""
    titles = (fig.layout.meta or {}).get("panel_titles", [])
    return "; ".join(f"{model}: {subject}" for model, subject in titles) or "a plotly figure"
