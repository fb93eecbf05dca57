"""SVG as plotly's JavaScript writes it, made sharp at any size and the same on every run.

Plotly draws a heatmap as an image of one pixel per cell, which several viewers of SVG and PDF
blur when they enlarge it; here every cell becomes a path. And plotly gives the figure and each
trace a random id, of which it makes those of the elements; here they are fixed.
"""

from __future__ import annotations

import re

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

_IMAGE = re.compile(r"<image [^>]*/>")
_UNDERLAP_PX = 0.5


def with_fixed_ids(fig: go.Figure) -> go.Figure:
    """A copy of a figure whose traces are numbered, so that plotly does not name them at random."""
    numbered = go.Figure(fig)
    for number, trace in enumerate(numbered.data):
        trace.uid = f"trace{number}"
    return numbered


def sharp_svg(svg: str, fig: go.Figure) -> str:
    """The same picture with cells as paths and with a fixed id of the figure.

    Args:
        svg: what plotly drew of ``fig``.
        fig: a figure whose every heatmap covers its axes with cells of one size and has its own
            ``zmin``, ``zmax`` and ``colorscale``.

    Returns:
        SVG.
    """
    uid = re.search(r'id="defs-(\w+)"', svg)
    if uid:
        svg = svg.replace(uid[1], "figure")
    heatmaps = [trace for trace in fig.data if trace.type == "heatmap"]
    images = _IMAGE.findall(svg)
    # Anything unexpected is left as plotly drew it: right, if not as sharp.
    if len(images) == len(heatmaps):
        for image, heatmap in zip(images, heatmaps, strict=True):
            svg = svg.replace(image, _cells(image, heatmap), 1)
    return svg


def _cells(image: str, heatmap: go.Heatmap) -> str:
    """Paths in the place of an image.

    Args:
        image: the ``<image>`` element.
        heatmap: what it shows; row 0 of its ``z`` is at the bottom.

    Returns:
        One path per cell. Each reaches a little under the cells to its right and above it, which
        are drawn later, so that no background shows through the seams.
    """
    x, y, width, height = (
        float(re.search(rf' {name}="([\d.-]+)"', image)[1])  # type: ignore[index]
        for name in ("x", "y", "width", "height")
    )
    values = np.array(heatmap.z, dtype=float)
    shares = np.clip((values - heatmap.zmin) / (heatmap.zmax - heatmap.zmin), 0, 1)
    n_rows, n_columns = shares.shape
    cell_width, cell_height = width / n_columns, height / n_rows
    colorscale = [list(stop) for stop in heatmap.colorscale]
    paths = []
    for (row, column), share in np.ndenumerate(shares):
        w = cell_width + _UNDERLAP_PX * (column < n_columns - 1)
        h = cell_height + _UNDERLAP_PX * (row < n_rows - 1)
        left, bottom = x + column * cell_width, y + height - row * cell_height
        color = sample_colorscale(colorscale, [share])[0]
        paths.append(
            f'<path d="M{left:.2f},{bottom:.2f}h{w:.2f}v{-h:.2f}h{-w:.2f}Z" fill="{color}"/>'
        )
    return f"<g>{''.join(paths)}</g>"
