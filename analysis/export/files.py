"""A figure and its data as files: pictures, an interactive page, a table and a record.

``export_figure(fig, "figures/heads")`` writes ``heads.html``, ``heads.png``, ``heads.svg``,
``heads.pdf``, the scores as ``heads.csv`` and what made them as ``heads.json``. The record lists
the checksum of every other file of the set and is written last, so it also tells whether files
that lie together belong together.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.errors import ExportError, ParameterError
from analysis.export.chromium import INSTALL_HINT, draw_in_browser, find_chromium
from analysis.export.html_page import html_page
from analysis.export.places import FORMATS, checked_formats, checked_stem, figure_stem, name_of
from analysis.export.records import as_json, ready_for_json
from analysis.export.still.render import missing_font, needs_browser, render
from analysis.export.whole_files import as_export_error, move_into_place, staging
from analysis.heads import all_heads, head_index
from analysis.plots.heatmap_layout import MAX_WIDTH, MIN_WIDTH, fit_width, is_heatmap_figure
from analysis.plots.heatmaps import facts_of
from analysis.plots.style import TEXT_PX
from analysis.provenance import timeless
from analysis.static.head_scores import COPYING_SCORE, RELATION_SCORE, SUPPRESSION_SCORE, HeadScores
from analysis.validation import check_number, check_type

__all__ = ["export_figure", "figure_stem"]

PAGE_WIDTH_MM = 171.45
"""Text width of a common two-column page (6.75 in); a single column is about 85 mm."""
SMALLEST_PRINT_PT = 6.0
_SCREEN_DPI, _PRINT_DPI = 192.0, 300.0
# A CSS pixel is 1/96 in and a point 1/72 in: so much smaller is print than the screen.
_PRINT_SCALE = SMALLEST_PRINT_PT / 72 * 96 / TEXT_PX
_MM_PER_PX = 25.4 / 96 * _PRINT_SCALE


def export_figure(
    fig: go.Figure,
    stem: str | os.PathLike[str],
    formats: Iterable[str] | str | None = None,
    *,
    scores: HeadScores | None = None,
    provenance: Mapping[str, object] | None = None,
    width: float | None = None,
    dpi: float | None = None,
) -> list[Path]:
    """Write a figure, with the data that it shows, whole or not at all.

    Titles, fonts, sizes and colours that were changed on the figure are the same in every format.
    Figures of this package are drawn without a browser. Of others, what only a browser can draw is
    left out where it cannot, and one printed line says why.

    Args:
        fig: what to write.
        stem: folder and name of the files; the folder is made if need be. With the ending of a
            format, only that format, the table and the record are written. In a folder alone
            the files are named as ``figure_stem`` names them.
        formats: some of ``html``, ``png``, ``svg``, ``pdf``, as a list or as ``"png,svg"``; all
            of them if None.
        scores: what the figure shows; a figure of ``plot_heatmaps`` holds it. Without scores no
            table is written.
        provenance: what made a figure of anything else, for the record; ready for JSON.
        width: of the pictures in mm, such as 85 for a column; their smallest text has 6 pt at any
            width. If None, 171.45 mm (6.75 in) for the PDF and the figure's own for PNG and SVG.
        dpi: of the PNG; if None, 300 where a width is given, else 192 (2 pixels for each of CSS).

    Returns:
        The files written.

    Raises:
        ExportError: a name, format, width or dpi cannot be used, the folder cannot be written, or
            another export to the same stem does not end. The files of before are still there.
        ParameterError: ``fig`` is no figure, or one of other scores than ``scores``.
    """
    check_type("fig", fig, go.Figure, "plot_heatmaps")
    facts = _facts(fig, scores)
    default = name_of(facts) if facts else "figure"
    path, ending = checked_stem(stem, default)
    as_typed = Path(stem).expanduser()  # without its ending, a name may be that of a folder
    path = path / default if path == as_typed and path.is_dir() else path
    chosen = checked_formats(ending if formats is None and ending else formats)
    if not chosen and scores is None and not facts:
        raise ExportError(f"no format is given; a figure is written as {', '.join(FORMATS)}")
    width_px = _checked_width(width)
    usual_dpi = _SCREEN_DPI if width is None else _PRINT_DPI
    resolution = usual_dpi if dpi is None else _checked_number("dpi", dpi, 30, 2400)
    if not (provenance is None or isinstance(provenance, Mapping)):
        raise ParameterError(f"provenance must be a mapping, not a {type(provenance).__name__}.")
    extra = None if provenance is None else ready_for_json(timeless(provenance), "provenance")

    with staging(path) as folder:
        table = _table(facts) if facts else None
        stills = [name for name in chosen if name != "html"]
        pictures = _pictures(fig, stills, width_px, resolution, path)
        contents: dict[str, bytes] = {}
        if "html" in chosen:
            contents["html"] = html_page(fig, path.name, facts=facts, table=table).encode()
        contents |= pictures
        if table is not None:
            contents["csv"] = table.to_csv(lineterminator="\n").encode()
        names = {ending: f"{path.name}.{ending}" for ending in (*contents, "json")}
        checksums = {
            names[ending]: hashlib.sha256(content).hexdigest()
            for ending, content in contents.items()
        }
        contents["json"] = _record(facts, checksums, extra).encode()
        files = [folder / names[ending] for ending in contents]
        with as_export_error(path):
            for file, content in zip(files, contents.values(), strict=True):
                file.write_bytes(content)
        return move_into_place(files, path.parent)


def _facts(fig: go.Figure, scores: HeadScores | None) -> dict[str, Any]:
    """What a heatmap figure says of its scores, or the given scores in the same form."""
    held = (fig.layout.meta or {}).get("scores") if is_heatmap_figure(fig) else None
    if scores is None:
        return dict(held) if held else {}
    check_type("scores", scores, HeadScores, "score_heads")
    given = facts_of(scores)
    compared = given.keys() - {"provenance"}
    if held and any(given[name] != held.get(name) for name in compared):
        raise ParameterError(
            "the figure shows other scores than those given: leave scores out, or draw these."
        )
    return given


def _table(facts: Mapping[str, Any]) -> pd.DataFrame:
    """The scores of ``HeadScores.to_frame`` and the counts behind them, int64, head by head."""
    top, bottom = (np.array(facts[name]).ravel() for name in ("n_in_top_k", "n_in_bottom_k"))
    n = facts["n_pairs"]
    first = COPYING_SCORE if facts["relation"] == "copying" else RELATION_SCORE
    columns = {
        first: top / n,
        SUPPRESSION_SCORE: bottom / n,
        "n_in_top_k": top,
        "n_in_bottom_k": bottom,
        "n_pairs": n,
    }
    return pd.DataFrame(columns, index=head_index(all_heads(facts["n_layers"], facts["n_heads"])))


def _checked_width(width: object) -> float | None:
    """A width in mm as CSS pixels, None if the formats' own is meant."""
    if width is None:
        return None
    least, most = (math.ceil(px * _MM_PER_PX) for px in (MIN_WIDTH, MAX_WIDTH))
    return _checked_number("width", width, least, most - 1, "mm") / _MM_PER_PX


def _checked_number(name: str, value: object, least: float, most: float, unit: str = "") -> float:
    try:
        return check_number(name, value, least, most, unit)
    except ParameterError as error:
        raise ExportError(str(error)) from None


def _pictures(
    fig: go.Figure, formats: list[str], width_px: float | None, dpi: float, stem: Path
) -> dict[str, bytes]:
    """The still pictures by format; without those that only a browser that fails could draw."""
    if not formats:
        return {}
    own = fit_width(fig, None, screen=False)
    printed = fit_width(fig, width_px or PAGE_WIDTH_MM / _MM_PER_PX, screen=False)
    reasons = needs_browser(own)
    if not reasons and (font := missing_font(own)):
        print(f"{stem}: the font {font} is not installed, so PNG and PDF show another.")
    drawn: dict[str, bytes] = {}
    failed: dict[str, str] = {}
    chromium = find_chromium() if reasons else None
    for name in formats:
        on_paper = name == "pdf" or width_px is not None
        shown, scale = (printed, _PRINT_SCALE) if on_paper else (own, 1.0)
        if not reasons:
            drawn[name] = render(shown, name, scale=scale, dpi=dpi, title=stem.name)
        elif chromium is None:
            failed[name] = INSTALL_HINT
        else:
            try:
                drawn[name] = draw_in_browser(shown, name, scale * dpi / 96, chromium)
            except ExportError as error:
                failed[name] = str(error)
    if failed:
        old = [name for name in failed if stem.with_name(f"{stem.name}.{name}").exists()]
        remark = f" ({', '.join(old)} there: of an earlier export)" if old else ""
        print(
            f"{stem}: {', '.join(failed)} not written{remark}; "
            f"{', '.join(reasons)} need a browser: "
            f"{'; '.join(dict.fromkeys(failed.values()))}"
        )
    return drawn


def _record(
    facts: Mapping[str, Any], checksums: dict[str, str], provenance: Mapping[str, object] | None
) -> str:
    """What made the figure, and which files were made of it, as JSON."""
    record: dict[str, object] = {"sha256": checksums}
    # The counts are in the table, and the checksum of the pairs says which they are.
    left_out = ("n_in_top_k", "n_in_bottom_k", "shipped_names")
    record |= {name: fact for name, fact in facts.items() if name not in left_out}
    if provenance is not None:
        record["made_by"] = provenance
    return as_json(record)
