"""The same run writes the same bytes, whenever it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from analysis.export.files import export_figure
from analysis.plots.heatmaps import plot_heatmaps
from tests.made_up import scores_from_counts

FORMATS = ["html", "png", "svg", "pdf"]


def written(folder: Path, time: str) -> dict[str, bytes]:
    counts = np.arange(6).reshape(2, 3)
    scores = scores_from_counts(counts, provenance={"k": 1, "time": time})
    export_figure(plot_heatmaps(scores), folder / "heads", FORMATS)
    other = go.Figure(go.Scatter(x=[0, 1], y=[1, 2]))
    made = {"static": {"seed": 3, "time": time}, "time": time}
    export_figure(other, folder / "other", ["html"], provenance=made)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_figure_exported_again_leaves_every_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    (tmp_path / "again").mkdir()
    once = written(tmp_path / "once", "2026-01-01T00:00:00+00:00")
    again = written(tmp_path / "again", "2027-07-07T07:07:07+00:00")
    assert set(once) == {
        *(f"heads.{ending}" for ending in (*FORMATS, "csv", "json")),
        *(f"other.{ending}" for ending in ("html", "json")),
    }
    assert {name for name in once if once[name] != again[name]} == set()
