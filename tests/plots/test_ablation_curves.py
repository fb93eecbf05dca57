"""Ablation curves are drawn with their intervals over prompts."""

from __future__ import annotations

import pytest

from analysis.plots.ablation_curves import plot_ablation
from tests.plots.other_figures import TASKS, ablation_curve


@pytest.mark.parametrize(("column", "up", "down"), [("accuracy", 0.1, 0.1), ("change", 0.2, 0.3)])
def test_every_point_has_its_interval(column: str, up: float, down: float) -> None:
    fig = plot_ablation(ablation_curve(), column, title="t")
    lines = [trace for trace in fig.data if trace.mode == "lines+markers"]
    assert len(lines) == 2 * len(TASKS)
    for trace in lines:
        assert list(trace.error_y.array) == pytest.approx([up] * 11, abs=0.011)
        assert list(trace.error_y.arrayminus) == pytest.approx([down] * 11, abs=0.011)
        assert trace.error_y.color == trace.line.color
    told = lines[0].hovertext[2]
    assert told.startswith("copying names: 2 removed, last 23.1<br>")
    if column == "accuracy":
        assert told.endswith("0.740, 95 % interval 0.640 to 0.840")
