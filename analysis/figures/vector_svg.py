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
        fig: a figure whose every heatmap covers its axes with cells of one size.

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
            svg = svg.replace(image, _cells(image, np.array(heatmap.z, dtype=float)), 1)
    return svg


def _cells(image: str, scores: np.ndarray) -> str:
    """Paths in the place of an image.

    Args:
        image: the ``<image>`` element.
        scores: ``[n_rows, n_columns]`` in [0, 1], row 0 at the bottom.

    Returns:
        One path per cell. Each reaches a little under the cells to its right and above it, which
        are drawn later, so that no background shows through the seams.
    """
    x, y, width, height = (
        float(re.search(rf' {name}="([\d.-]+)"', image)[1])  # type: ignore[index]
        for name in ("x", "y", "width", "height")
    )
    n_rows, n_columns = scores.shape
    cell_width, cell_height = width / n_columns, height / n_rows
    paths = []
    for (row, column), score in np.ndenumerate(scores):
        w = cell_width + _UNDERLAP_PX * (column < n_columns - 1)
        h = cell_height + _UNDERLAP_PX * (row < n_rows - 1)
        left, bottom = x + column * cell_width, y + height - row * cell_height
        color = sample_colorscale("Viridis", [score])[0]
        paths.append(
            f'<path d="M{left:.2f},{bottom:.2f}h{w:.2f}v{-h:.2f}h{-w:.2f}Z" fill="{color}"/>'
        )
    return f"<g>{''.join(paths)}</g>"
