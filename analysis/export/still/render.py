"""The three still formats of a figure, the same bytes for the same figure."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import plotly.graph_objects as go

from analysis.export.still.drawable import cannot_draw
from analysis.export.still.fonts import missing, use_own_font
from analysis.export.still.frame import Canvas, draw_axes, draw_words
from analysis.export.still.legends import draw_legends
from analysis.export.still.resolved import colour, resolve
from analysis.export.still.svg_texts import keep_widths
from analysis.export.still.traces import draw_traces


def needs_browser(fig: go.Figure) -> list[str]:
    """What of a figure cannot be drawn here, in words; nothing for this package's figures."""
    return cannot_draw(resolve(fig))


def render(
    fig: go.Figure,
    picture_format: str,
    *,
    scale: float = 1.0,
    dpi: float = 96.0,
    title: str = "",
) -> bytes:
    """Draw a figure.

    Args:
        fig: one for which ``needs_browser`` is empty.
        picture_format: ``png``, ``svg`` or ``pdf``.
        scale: size on paper as a multiple of the figure's own (a CSS pixel is 1/96 in).
        dpi: pixels of a PNG for each inch of that size.
        title: of the file, for readers that show one.

    Returns:
        The file's content.
    """
    (content,) = render_all(fig, [picture_format], scale=scale, dpi=dpi, title=title)
    return content


def render_all(
    fig: go.Figure,
    formats: Sequence[str],
    *,
    scale: float = 1.0,
    dpi: float = 96.0,
    title: str = "",
) -> list[bytes]:
    """As ``render``, in several formats: the figure is laid out once, and written in each."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    use_own_font()
    source = resolve(fig)
    settings: Any = {
        "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and edited
        "svg.hashsalt": "figure",
        "pdf.fonttype": 42,  # TrueType: journals refuse the other kind
        "axes.unicode_minus": True,
        "path.simplify": False,
    }
    with rc_context(settings), _quiet():
        figure = Figure(
            figsize=(source.width * scale / 96, source.height * scale / 96),
            facecolor=colour(source.layout.get("paper_bgcolor", "#fff")),
        )
        canvas = Canvas(figure, source, 0.75 * scale)
        axes = draw_axes(canvas)
        draw_traces(canvas, axes)
        draw_words(canvas, axes)
        draw_legends(canvas)
        written = []
        for picture_format in formats:
            out = io.BytesIO()
            figure.savefig(
                out,
                format=picture_format,
                dpi=dpi if picture_format == "png" else 72,
                facecolor=figure.get_facecolor(),
                metadata=_metadata(picture_format, title),
            )
            drawn = out.getvalue()
            written.append(keep_widths(drawn) if picture_format == "svg" else drawn)
    return written


def missing_font(fig: go.Figure) -> str | None:
    """The figure's font, if neither it nor the families after it are there."""
    return missing(str(resolve(fig).font()["family"]))


def _metadata(picture_format: str, title: str) -> dict[str, str | None]:
    """The title under each format's names, without the time of drawing."""
    if picture_format == "png":
        return {"Title": title, "Description": "", "Software": None}
    if picture_format == "svg":
        return {"Title": title, "Description": "", "Date": None, "Creator": None}
    return {"Title": title, "Subject": "", "CreationDate": None, "Creator": None}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without matplotlib's word on each font of the list that is not installed."""
    logger = logging.getLogger("matplotlib.font_manager")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
