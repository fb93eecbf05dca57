"""A figure as one HTML page that needs no network.

The page carries plotly's JavaScript in itself, packed with gzip to a third of its size, and
unpacks it when opened (``DecompressionStream``: Chrome 80, Firefox 113, Safari 16.4, or later).
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from functools import cache

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

VIEW_CONFIG = {"displaylogo": False, "showSendToCloud": False, "responsive": False}
"""How plotly shows a figure: without a button that would upload it."""

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body>
<div id="figure"></div>
<script id="packed" type="text/plain">{packed}</script>
<script type="module">
const bytes = Uint8Array.from(atob(document.getElementById("packed").textContent),
                              (c) => c.charCodeAt(0));
const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
const script = document.createElement("script");
script.textContent = await new Response(unpacked).text();
document.head.append(script);
const {{data, layout}} = {figure};
const config = {config};
Plotly.newPlot("figure", data, layout, config);
</script>
</body>
</html>
"""


def html_page(fig: go.Figure, title: str) -> str:
    """A page that shows an interactive figure; the same bytes for the same figure.

    Args:
        fig: any plotly figure.
        title: of the browser's tab.

    Returns:
        HTML.
    """
    # to_json writes every < as an escape, so no text in the figure can end the script.
    return _PAGE.format(
        title=html.escape(title),
        packed=_packed_plotly(),
        figure=fig.to_json(),
        config=json.dumps(VIEW_CONFIG),
    )


@cache
def _packed_plotly() -> str:
    """Plotly's JavaScript, gzip in base64, without a time in it."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
