"""Where everything in the two-panel figure goes, for any width and any number of heads.

Texts keep their size in pixels and the panels take what is left, so the same figure can be laid
out for a screen and for a printed column. All lengths here are CSS pixels (1/96 in).
"""

from __future__ import annotations

import textwrap

import plotly.graph_objects as go

from analysis.errors import ParameterError

SCREEN_WIDTH = 1050
MIN_WIDTH = 400
TEXT_PX = 13
"""The smallest text. Print shrinks it to 6 pt, see ``analysis.export.files``."""

TITLE_PX = 16
_LEFT = 52  # tick labels and title of the head axis
_COLOR_BAR = 78  # bar, its tick labels and its upright title
_GAP = 14  # between the left panel's colour bar and the right panel's axis title
_TICKS = 48  # tick labels and title of the layer axis
_LEGEND_ROW = 20
_MIN_PANEL_HEIGHT, _MAX_PANEL_HEIGHT = 250, 420  # an upright colour-bar title; one screen
_LABEL_STEPS = (1, 2, 5, 10, 20, 50, 100)
_FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif"


def label_step(cell_px: float, label_px: float) -> int:
    """Of how many ticks one gets a label, so that neighbouring labels stay apart.

    Args:
        cell_px: distance from tick to tick.
        label_px: room that one label needs.

    Returns:
        The smallest round step whose labels do not touch.
    """
    return next((step for step in _LABEL_STEPS if step * cell_px >= label_px), _LABEL_STEPS[-1])


def title_lines(model: str, subject: str, room_px: float) -> list[str]:
    """Break a panel's title into lines that fit, after the model's name if that is enough.

    Args:
        model: the model's title, perhaps one long word.
        subject: what the panel shows of it.
        room_px: the longest line that fits.

    Returns:
        One line, or the model's lines and then the subject's.
    """
    mean_character_px = 0.55 * TITLE_PX  # of a proportional sans-serif face, a little generous
    length = max(8, int(room_px / mean_character_px))
    whole = f"{model}: {subject}"
    if len(whole) <= length:
        return [whole]
    return textwrap.wrap(f"{model}:", length) + textwrap.wrap(
        subject, length, break_on_hyphens=False
    )


def lay_out(fig: go.Figure, width: float = SCREEN_WIDTH) -> None:
    """Place panels, ticks, colour bars, titles and legends of a heatmap figure, in place.

    Args:
        fig: a figure of ``plot_heatmaps``; its traces are the two heatmaps
            first, then markers, and ``layout.meta["panel_titles"]`` holds (model, subject) of
            each title.
        width: of the figure.
    """
    n_heads, n_layers = len(fig.data[0].z), len(fig.data[0].z[0])
    if not isinstance(width, (int, float)) or width < MIN_WIDTH:
        raise ParameterError(f"width must be {MIN_WIDTH} CSS pixels or more, not {width!r}.")
    panel_width = (width - 2 * (_LEFT + _COLOR_BAR) - _GAP) / 2
    cell_width = panel_width / n_layers
    panel_height = min(max(cell_width * n_heads, _MIN_PANEL_HEIGHT), _MAX_PANEL_HEIGHT)
    cell_height = panel_height / n_heads

    titles = [
        title_lines(model, subject, panel_width + 2 * _LEFT)
        for model, subject in fig.layout.meta["panel_titles"]
    ]
    top = 16 + 20 * max(map(len, titles))
    markers = fig.data[2:]
    legend_height = _LEGEND_ROW * (1 + len(markers) // 2) + 24 if markers else 0
    bottom = _TICKS + legend_height
    fig.update_layout(
        width=width,
        height=top + panel_height + bottom,
        margin={"l": _LEFT, "r": _COLOR_BAR, "t": top, "b": bottom, "autoexpand": False},
        font={"family": _FONT, "size": TEXT_PX, "color": "black"},
    )

    share = panel_width / (width - _LEFT - _COLOR_BAR)
    digits_px = 0.6 * TEXT_PX
    for panel, domain in enumerate(((0.0, share), (1.0 - share, 1.0))):
        suffix = "" if panel == 0 else "2"
        middle = sum(domain) / 2
        fig.layout[f"xaxis{suffix}"].update(
            domain=domain,
            ticklabelstep=label_step(cell_width, digits_px * len(str(n_layers - 1)) + 5),
        )
        fig.layout[f"yaxis{suffix}"].update(ticklabelstep=label_step(cell_height, TEXT_PX + 2))
        fig.data[panel].colorbar.update(x=domain[1])
        fig.layout.annotations[panel].update(
            text="<br>".join(map(_plain, titles[panel])), x=middle, font_size=TITLE_PX
        )
        fig.layout[f"legend{suffix}"].update(x=middle, y=-(_TICKS + 4) / panel_height)
    for trace in markers:
        size = min(max(0.4 * min(cell_width, cell_height), 6), 13)
        # Open marks go around filled ones that stand on the same head.
        trace.marker.size = size * (1.6 if str(trace.marker.symbol).endswith("-open") else 1)


def fit_width(fig: go.Figure, width: float) -> go.Figure:
    """A copy of any figure for another width, with texts of the same size.

    Args:
        fig: a heatmap figure is laid out afresh; of any other only the width changes.
        width: of the copy.

    Returns:
        The copy.
    """
    fitted = go.Figure(fig)
    if "panel_titles" in (fig.layout.meta or {}):
        lay_out(fitted, width)
    else:
        fitted.update_layout(width=width)
    return fitted


def _plain(text: str) -> str:
    """Text that plotly shows as it stands: its texts may hold markup, a model's name may not."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
