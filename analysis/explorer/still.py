"""The two heatmaps as a still SVG, for where no JavaScript runs; equal scores give equal text."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.plots.marks import HeadSet, Look, class_sets
from analysis.plots.style import PAPER
from analysis.plots.texts import label_step
from analysis.static.head_scores import HeadScores

VIRIDIS = (
    "#440154", "#48186a", "#472d7b", "#424086", "#3b528b", "#33638d", "#2c728e", "#26828e",
    "#21918c", "#1fa088", "#28ae80", "#3fbc73", "#5ec962", "#84d44b", "#addc30", "#d8e219",
    "#fde725",
)  # fmt: skip
ZERO = "#f1f2f5"
_WIDTH, _LEFT, _TOP, _BELOW, _GAP, _LINE = 900, 34, 52, 62, 20, 16


def still_picture(scores: HeadScores, classes: pd.DataFrame | None = None) -> str:
    """Copying (left) and suppression (right) of every head as SVG.

    On a white ground, with the marks of ``classes``; every text in it is escaped.
    """
    panel = (_WIDTH - _GAP) // 2
    cell = (panel - _LEFT) / scores.n_layers
    tall = float(np.clip(cell, 9 if scores.n_heads > 16 else 14, 24))
    sets = [
        () if classes is None else class_sets(scores, classes, suppression=side == 1)
        for side in (0, 1)
    ]
    height = _TOP + tall * scores.n_heads + _BELOW + _LINE * max(map(len, sets))
    kind = "Copying" if scores.relation == "copying" else "Relation"
    title = html.escape(f"{scores.model.title}: {kind.lower()} and suppression, k = {scores.k}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        'font-family="system-ui, Liberation Sans, Arial, sans-serif" font-size="11" '
        f'fill="#5b6270"><title>{title}</title>'
        f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
        f'<text x="{_LEFT}" y="18" font-size="15" font-weight="700" fill="#1f2430">{title}</text>'
    ]
    for side, counts in enumerate((scores.n_in_top_k, scores.n_in_bottom_k)):
        name = (f"{kind} score", "Suppression score")[side]
        left = _LEFT + side * (panel + _GAP)
        parts.append(_panel(scores, counts, name, left, cell, tall))
        parts.append(_marks(sets[side], scores, left, cell, tall))
    parts.append(
        f'<text x="{_LEFT}" y="{height - 8:.0f}" font-size="10">{scores.n_pairs} '
        f"{scores.pairs.unit}; first MLP {'on' if scores.first_mlp else 'off'}; grey: exactly 0; "
        "colours from 0 (purple) to 1 (yellow)</text></svg>"
    )
    return "".join(parts)


def _panel(
    scores: HeadScores, counts: np.ndarray, name: str, left: float, cell: float, tall: float
) -> str:
    bottom = _TOP + tall * scores.n_heads
    parts = [f'<text x="{left}" y="{_TOP - 8}" font-size="13" fill="#1f2430">{name}</text>']
    for layer in range(scores.n_layers):
        for head in range(scores.n_heads):
            share = counts[layer, head] / scores.n_pairs
            parts.append(
                f'<rect x="{left + layer * cell:.1f}" y="{bottom - (head + 1) * tall:.1f}" '
                f'width="{cell - 0.8:.1f}" height="{tall - 0.8:.1f}" fill="{_color(share)}"/>'
            )
    for layer in range(0, scores.n_layers, label_step(cell, 18)):
        parts.append(
            f'<text x="{left + (layer + 0.5) * cell:.1f}" y="{bottom + 14:.1f}" '
            f'text-anchor="middle">{layer}</text>'
        )
    for head in range(0, scores.n_heads, label_step(tall, 13)):
        parts.append(
            f'<text x="{left - 5:.1f}" y="{bottom - (head + 0.5) * tall + 4:.1f}" '
            f'text-anchor="end">{head}</text>'
        )
    parts.append(
        f'<text x="{left + cell * scores.n_layers / 2:.1f}" y="{bottom + 30:.1f}" '
        'text-anchor="middle">Layer</text>'
    )
    return "".join(parts)


def _color(share: float) -> str:
    if share == 0:
        return ZERO
    return VIRIDIS[round(share * (len(VIRIDIS) - 1))]


def _marks(
    sets: Sequence[HeadSet], scores: HeadScores, left: float, cell: float, tall: float
) -> str:
    """The marked heads of one panel, and below it what the marks mean."""
    bottom, r = _TOP + tall * scores.n_heads, min(cell, tall) * 0.28
    parts = []
    for line, one in enumerate(sets):
        y = bottom + 46 + line * _LINE
        parts.append(_mark(one.look, left + 8, y, 4))
        parts.append(f'<text x="{left + 20}" y="{y + 4:.1f}">{html.escape(one.label)}</text>')
        for layer, head in one.heads:
            x, y = left + (layer + 0.5) * cell - 0.4, bottom - (head + 0.5) * tall - 0.4
            parts.append(_mark(one.look, x, y, r))
    return "".join(parts)


def _mark(look: Look, x: float, y: float, r: float) -> str:
    """One mark; open symbols and crosses stand on a white halo."""
    r *= look.size
    shape = look.symbol.removesuffix("-open")
    if shape == "circle":
        drawn = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"'
    else:
        corners = {
            "x": "M-1,-1L1,1M-1,1L1,-1",
            "square": "M-1,-1L1,-1L1,1L-1,1Z",
            "diamond": "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
        }[shape]
        scaled = re.sub(
            r"(-?[\d.]+),(-?[\d.]+)",
            lambda at: f"{x + r * float(at[1]):.1f},{y + r * float(at[2]):.1f}",
            corners,
        )
        drawn = f'<path d="{scaled}"'
    if look.is_open or shape == "x":
        return (
            f'{drawn} fill="none" stroke="{PAPER}" stroke-width="4"/>'
            f'{drawn} fill="none" stroke="{look.colour}" stroke-width="2"/>'
        )
    return f'{drawn} fill="{look.colour}" stroke="{look.edge}"/>'
