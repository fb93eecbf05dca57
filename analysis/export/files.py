"""A figure and its data as files: pictures, an interactive page, a table and a record.

``export_figure(fig, "figures/heads")`` writes ``heads.html``, ``heads.png``, ``heads.svg``,
``heads.pdf``, the scores as ``heads.csv`` and what made them as ``heads.json``. The record lists
the checksum of every other file of the set and is written last, so it also tells whether files
that lie together belong together.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from analysis.errors import ExportError
from analysis.export.chromium import INSTALL_HINT, Picture, draw, find_chromium
from analysis.export.html_page import html_page
from analysis.export.whole_files import move_into_place, staging
from analysis.names import are_shipped
from analysis.plots.heatmap_layout import TEXT_PX, fit_width
from analysis.static.head_scores import HeadScores
from analysis.validation import check_type

FORMATS = ("html", "png", "svg", "pdf")
PRINT_WIDTH_IN = 6.75
"""Text width of a common two-column page; a single column is about 5.5 in."""

FIGURES = Path(os.environ.get("NAME_HEADS_FIGURES") or Path(__file__).parents[2] / "figures")
"""Where notebooks write; ``make test`` sets another folder, to change no committed file."""
SMALLEST_PRINT_PT = 6.0
_PNG_SCALE = 2.0
# A CSS pixel is 1/96 in and a point 1/72 in: so much smaller is print than the screen.
_PRINT_SCALE = SMALLEST_PRINT_PT / 72 * 96 / TEXT_PX


def export_figure(
    fig: go.Figure,
    stem: str | Path,
    formats: Sequence[str] = FORMATS,
    *,
    scores: HeadScores | None = None,
    provenance: Mapping[str, object] | None = None,
    width_in: float = PRINT_WIDTH_IN,
) -> list[Path]:
    """Write a figure, with the data that it shows, whole or not at all.

    Without Chromium the pictures are left out, and one printed line says what to install.

    Args:
        fig: what to write.
        stem: folder and name of the files, without ending; the folder is made if need be.
        formats: some of ``html``, ``png``, ``svg``, ``pdf``.
        scores: what the figure shows; a figure of ``plot_heatmaps`` knows it. Without scores no
            table is written.
        provenance: what made a figure of anything else, for the record; ready for JSON.
        width_in: width of the PDF in inches; its smallest text has 6 pt at any width.

    Returns:
        The files written.

    Raises:
        ExportError: a format is unknown, the folder cannot be written, the browser fails, or
            another export to the same stem does not end. The files of before are still there.
        ParameterError: ``fig`` is no figure.
    """
    check_type("fig", fig, go.Figure, "plot_heatmaps")
    formats = _checked(formats)
    stem = Path(stem)
    if not stem.name:
        raise ExportError(f"a figure needs a name to write it under; got {str(stem)!r}")
    if not width_in > 0:
        raise ExportError(f"width_in must be positive; got {width_in!r}")
    if scores is None:
        scores = getattr(fig, "scores", None)

    with staging(stem) as folder:
        contents: dict[str, bytes] = {}
        if "html" in formats:
            contents["html"] = html_page(fig, stem.name).encode()
        contents |= _pictures(fig, [f for f in formats if f != "html"], width_in, stem)
        if scores is not None:
            contents["csv"] = score_table(scores).to_csv(lineterminator="\n").encode()
        names = {ending: f"{stem.name}.{ending}" for ending in (*contents, "json")}
        checksums = {
            names[ending]: hashlib.sha256(content).hexdigest()
            for ending, content in contents.items()
        }
        contents["json"] = _record(scores, checksums, provenance).encode()
        files = [folder / names[ending] for ending in contents]
        try:
            for file, content in zip(files, contents.values(), strict=True):
                file.write_bytes(content)
        except OSError as error:
            raise ExportError(f"cannot write {stem}: {error}") from error
        return move_into_place(files, stem.parent)


def figure_stem(scores: HeadScores, name: str | None = None, kind: str = "heatmaps") -> Path:
    """Where a model's figures are written: in ``figures/``, one stem for each setting.

    Args:
        scores: what the figure shows; the model and any setting off its default enter the name,
            other names or pairs by the first digits of their checksum.
        name: a name of your own, instead.
        kind: of figure.
    """
    if name is None:
        name = scores.model.name.rsplit("/", 1)[-1].lower() + f"_{kind}"
        name += f"_k{scores.k}" if scores.k != 1 else ""
        name += "" if scores.first_mlp else "_without_mlp"
        name += "" if scores.relation == "copying" else "_relation"
        name += "" if are_shipped(scores.pairs) else f"_{scores.pairs.checksum[:8]}"
    return FIGURES / name


def score_table(scores: HeadScores) -> pd.DataFrame:
    """The scores with the counts behind them.

    Args:
        scores: of one model.

    Returns:
        The columns of ``HeadScores.to_frame`` with ``n_in_top_k``, ``n_in_bottom_k`` and
        ``n_pairs`` (int64), indexed by ``layer`` and ``head``.
    """
    return scores.to_frame().assign(
        n_in_top_k=scores.n_in_top_k.ravel(),
        n_in_bottom_k=scores.n_in_bottom_k.ravel(),
        n_pairs=scores.n_pairs,
    )


def _checked(formats: Sequence[str]) -> list[str]:
    """The formats, each once, if all are known."""
    wanted = [formats] if isinstance(formats, str) else list(dict.fromkeys(formats))
    unknown = [repr(name) for name in wanted if name not in FORMATS]
    if unknown:
        raise ExportError(
            f"unknown format {', '.join(unknown)}; a figure is written as {', '.join(FORMATS)}"
        )
    return wanted


def _pictures(fig: go.Figure, formats: list[str], width_in: float, stem: Path) -> dict[str, bytes]:
    """The still pictures, by format, or none and one line where no browser can draw them."""
    if not formats:
        return {}
    chromium = find_chromium()
    if chromium is None:
        old = [f for f in formats if stem.with_name(f"{stem.name}.{f}").exists()]
        remark = f" ({', '.join(old)} there: of an earlier export)" if old else ""
        print(f"{stem}: {', '.join(formats)} not written{remark}; for them, {INSTALL_HINT}")
        return {}
    pictures = {
        "png": lambda: Picture(fig, "png", _PNG_SCALE),
        "svg": lambda: Picture(fig, "svg"),
        "pdf": lambda: Picture(fit_width(fig, width_in * 96 / _PRINT_SCALE), "pdf", _PRINT_SCALE),
    }
    drawn = draw([pictures[name]() for name in formats], chromium)
    return dict(zip(formats, drawn, strict=True))


def _record(
    scores: HeadScores | None,
    checksums: dict[str, str],
    provenance: Mapping[str, object] | None,
) -> str:
    """What made the figure, and which files were made of it, as JSON."""
    record: dict[str, object] = {"sha256": checksums}
    if scores is not None:
        record |= {
            "model": asdict(scores.model),
            "relation": scores.relation,
            "k": scores.k,
            "first_mlp": scores.first_mlp,
            "n_pairs": scores.n_pairs,
            "n_layers": scores.n_layers,
            "n_heads": scores.n_heads,
            "provenance": scores.provenance,
        }
    if provenance is not None:
        record["made_by"] = provenance
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"
