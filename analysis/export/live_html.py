"""A notebook as HTML whose figures stay live: hovering and zooming work, without a network.

``jupyter nbconvert --to analysis.export.live_html.LiveHTMLExporter notebooks/03_heatmaps.ipynb``.
nbconvert's own exporter knows nothing of plotly and shows the figures' pictures. The
explorer's picture is shown here too: a widget's scripts would come from the network.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from nbconvert.exporters.html import HTMLExporter

from analysis.export.display import MIME_TYPE, WIDGET_MIME_TYPE
from analysis.export.html_page import escaped, packed_plotly, unpacking

_PACKED = "packed-plotly"
_SCRIPT = f"""
{unpacking(_PACKED)}
for (const place of document.querySelectorAll(".live-figure")) {{
  const figure = JSON.parse(place.nextElementSibling.textContent);
  await Plotly.newPlot(place, figure.data, figure.layout, figure.config);
}}
document.documentElement.dataset.live = "yes";
"""


class LiveHTMLExporter(HTMLExporter):
    """nbconvert's HTML, with plotly's script in the page where a figure needs it."""

    export_from_notebook = "Live HTML"

    def from_notebook_node(
        self, nb: Any, resources: Any = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Convert a notebook, which stays as it is."""
        return super().from_notebook_node(with_live_figures(nb), resources, **kwargs)


def with_live_figures(notebook: Any) -> Any:
    """A copy of a notebook whose plotly figures are HTML; the last one brings the script.

    Of a widget that has a picture beside it, the picture is left.
    """
    live = copy.deepcopy(notebook)
    outputs = [output for cell in live.cells for output in cell.get("outputs", ())]
    for output in outputs:
        if "image/svg+xml" in output.get("data", {}):
            output.data.pop(WIDGET_MIME_TYPE, None)
    figures = [output for output in outputs if MIME_TYPE in output.get("data", {})]
    for output in figures:
        figure = escaped(json.dumps(output.data[MIME_TYPE]))
        output.data = type(output.data)(
            {
                "text/html": '<div class="live-figure"></div>'
                f'<script type="application/json">{figure}</script>'
            }
        )
    if figures:
        figures[-1].data["text/html"] += (
            f'<script id="{_PACKED}" type="text/plain">{packed_plotly()}</script>'
            f'<script type="module">{_SCRIPT}</script>'
        )
    return live
